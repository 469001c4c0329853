"""Turns logs into numbers: frames, comparisons, intervals, payoffs."""
