"""What tests of the load test share."""

from __future__ import annotations

from tests.bench.conftest import _redis_on_path

__all__ = ["_redis_on_path"]
