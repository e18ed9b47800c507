"""Where Lightning meets the loop of rollouts."""
