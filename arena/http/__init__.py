"""Serves a victim over HTTP, and asks victims that run elsewhere."""
