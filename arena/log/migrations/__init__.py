"""Alembic's folder: `env.py` runs the scripts of `versions` on a connection it is handed.

A new one: change `tables.py`, run `python -m arena.log.migrations "what changes"`, read the
script it wrote, and set `schema_version.HEAD` to its number.
"""
