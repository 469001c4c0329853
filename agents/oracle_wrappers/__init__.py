"""Oracle wrappers: what stands between the oracle and an attacker, whichever attacker it is."""
