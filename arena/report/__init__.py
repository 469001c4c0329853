"""Writes some episodes of a log as one HTML file that opens anywhere, offline."""
