"""The migrations, one file each, numbered from 0001."""
