"""A door for training."""
