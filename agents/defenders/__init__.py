"""The defenders, one per file; `static` is where to start reading."""
