"""The exporter: runs a bundle's models over its tables and publishes a generation in the store."""
