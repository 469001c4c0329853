"""Networks by name: victims, clones, exit heads and generators."""
