"""Plays a scenario into a log: episodes, their workers and their saves."""
