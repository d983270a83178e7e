"""Load tests of a running service; Locust runs in an environment of its own."""
