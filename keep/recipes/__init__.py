"""Recipes: the order of a command's stages; what a stage does is elsewhere in ``keep``."""
