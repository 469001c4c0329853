"""The attackers, one per file, listed in `arena.registry.players`; read `noise` first."""
