"""The victim: a frozen multi-exit network that stops computing at its exits."""
