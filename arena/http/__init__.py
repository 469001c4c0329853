"""The victim behind HTTP, and the oracle that asks it."""
