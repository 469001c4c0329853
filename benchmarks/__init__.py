"""Benchmarks: what the arena costs, and the tables of its documentation."""
