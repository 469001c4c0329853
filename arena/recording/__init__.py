"""Keeps queries and answers of an episode in files beside the log."""
