"""Defences with their knobs, one per file, listed in `arena.registry.players`."""
