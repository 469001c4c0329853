"""Plays logged episodes again: verification, counterfactuals, timelines."""
