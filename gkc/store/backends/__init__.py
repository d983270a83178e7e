"""The backends: embedded files, and Redis."""
