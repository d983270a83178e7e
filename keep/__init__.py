"""KEEP pretraining: logs, teacher and student models, and the bundle handed to the exporter."""
