"""Load tests with Locust, which runs in an environment of its own: ``python -m loadtest.run``."""
