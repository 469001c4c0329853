"""Maps the names of scenarios to classes, and checks their parameters."""
