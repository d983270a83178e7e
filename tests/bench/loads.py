"""Runs of a load as a benchmark gets them, with made-up figures, and how little is exported."""

from __future__ import annotations

from bench.load import Load
from bench.world import Shape

TINY = Shape(users=5, items=30, pairs=3, categories=4, dim=8)


def a_load(*, rate: float = 1.0, cpu_ms: float = 1.0, p50_ms: float = 1.0, failed: int = 0) -> Load:
    requests = 1000
    return Load(
        requests=requests,
        seconds=requests / rate,
        failed=failed,
        bytes_read=0,
        p50_ms=p50_ms,
        p99_ms=p50_ms,
        cpu_ms=cpu_ms,
        page_faults=0.0,
    )
