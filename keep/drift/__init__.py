"""Versions that disagree: what a mismatch costs, and ways to newer versions that cost less."""
