"""The log: what was played and what was measured, in SQLite or any database SQLAlchemy speaks.

This module imports nothing; `arena.log.store` is the entry. Where to start: `rows` (the values that
go in and come out), `tables` (how they lie in the database), `store` (open, write, read).
"""
