"""Saves a long episode while it is played, so that a kill costs minutes and not the episode."""
