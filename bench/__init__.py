"""Measurements that anyone can rerun; each module is a script."""
