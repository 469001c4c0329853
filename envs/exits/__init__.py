"""Exit rules: where each image leaves the network, and how thresholds are calibrated."""
