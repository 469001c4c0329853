"""Training of victims and clones: losses, the loop, the cache of checkpoints."""
