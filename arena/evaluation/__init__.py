"""Measures what the players achieved, without changing the episode."""
