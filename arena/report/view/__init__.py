"""The pages of `arena view`: episodes in a table, one by one, side by side, and their queries."""
