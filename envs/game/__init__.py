"""The rules of the game: rounds, the query ledger, benign traffic, clocks."""
