"""What attackers learn with: clones, transfer sets, generators, gradient estimates."""
