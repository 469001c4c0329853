"""What an attacker learns from how long answers take: counting exits, naming the network."""
