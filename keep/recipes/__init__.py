"""Recipes: plain functions, read top to bottom, that the commands call."""
