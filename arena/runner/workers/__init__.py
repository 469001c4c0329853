"""Those who play a match's episodes beside one another: local processes, or a Ray cluster."""
