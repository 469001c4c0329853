"""The attackers, one per file; `noise` is where to start reading."""
