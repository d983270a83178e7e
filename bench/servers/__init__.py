"""Servers that the service is compared with; each is run as ``python -m bench.servers.NAME``."""
