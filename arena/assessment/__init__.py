"""A fixed sequence of attacks, its worst case, and flags for results that mislead."""
