"""Workers that play the episodes of a match at once: local processes, or a Ray cluster."""
