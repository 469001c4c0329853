"""Loads what others wrote: classes and functions of a file, of an installed distribution."""
