"""The migrations, one file each, numbered from v0001."""
