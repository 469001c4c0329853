"""The match: scenarios, episodes, the referee, the log, analysis and the command line.

This module imports nothing, so that the command line starts without torch.
"""
