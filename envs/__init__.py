"""The world of the game: data, networks, victims, defences, the oracle and the environments.

This module imports nothing, so that the command line starts without torch.
"""
