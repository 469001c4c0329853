"""Plays an attacker in a process of its own, which holds neither victim nor test set."""
