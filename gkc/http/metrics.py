"""Every metric of the service, and how ``/metrics`` is rendered, with one worker or several."""

from __future__ import annotations

import os
import platform
from collections import Counter as Numbers
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

import gkc
from gkc.arrays import I64
from gkc.errors import OverloadedError, StoreError
from gkc.http.metrics_directory import told_if_gone
from gkc.http.tally import AnsweredRows, Histogram, Tally, by_name
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS, STATUSES, Part
from gkc.problem import KINDS, kind_of
from gkc.store import Catalogue

REQUEST_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_REQUEST_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_STORE_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0,
)  # fmt: skip

STORE_OPERATIONS: Final = ("catalogue", "manifest", "item_table", "fetch_users", "scrub")
"""What the service reads of a store."""

_OTHER_ROUTES: Final = "other"
_OVERLOADED: Final = KINDS[OverloadedError]
_STATUS_NAMES: Final = {FOUND: "found", DEFAULT: "default", ABSENT: "absent"}

disable_created_metrics()  # type: ignore[no-untyped-call]


def share_values(directory: Path) -> None:
    """Have this process, and those that it forks, keep their values in files in a directory."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


class Metrics:
    """The service's metrics, built on a registry of their own.

    Parameters
    ----------
    multiprocess_dir : Path, optional
        Where several workers share their values, by `share_values`. Without it, the values of
        this process only.
    """

    def __init__(self, multiprocess_dir: Path | None = None) -> None:
        if multiprocess_dir is None:
            # The library chose by its environment variable, whatever that names, on its import.
            values.ValueClass = values.MutexValue
        self._directory = multiprocess_dir
        self._registry = CollectorRegistry()
        self._counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        requests = self._counter("gkc_requests", "Requests answered.", ["route", "code"])
        request_seconds = histogram(
            "gkc_request_duration_seconds",
            "Seconds from a request's first byte read to its answer written.",
            ["route"],
            buckets=REQUEST_SECONDS,
        )
        request_rows = histogram(
            "gkc_request_rows", "Rows asked for by one request.", ["route"], buckets=_REQUEST_ROWS
        )
        parts = self._counter(
            "gkc_parts",
            "Parts answered, by whether they were found, default or absent.",
            ["version", "part", "status"],
        )
        store_seconds = histogram(
            "gkc_store_duration_seconds",
            "Seconds from asking the store until its answer was taken up.",
            ["operation"],
            buckets=_STORE_SECONDS,
        )
        self.store_errors = self._counter(
            "gkc_store_errors",
            "Reads of the store that failed, or found something lost or damaged.",
            ["operation"],
        )
        for operation in STORE_OPERATIONS:
            self.store_errors.labels(operation)  # from zero, so that a first error is a rise
        # The library's own look-up of a child costs as much as counting in it.
        self._request_counts = cache(requests.labels)
        self._route_seconds = cache(request_seconds.labels)
        self._route_rows = cache(request_rows.labels)
        self._part_counts = cache(parts.labels)
        self._operation_seconds = cache(store_seconds.labels)
        self._inflight = self._level("gkc_inflight_requests", "Requests being answered.")
        self._open_connections = self._level("gkc_open_connections", "Connections of callers.")
        self._answer_bytes = self._level(
            "gkc_answer_bytes_inflight", "Bytes of answers that callers have not taken yet."
        )
        rejected = self._counter(
            "gkc_rejected",
            "Requests and connections refused because they went beyond a limit.",
            ["reason"],
        )
        self._rejected = {
            kind: rejected.labels(kind.name) for kind in KINDS.values() if kind.is_limit
        }
        self.tally = Tally(self.add_tally)
        self.routes: Collection[str] = ()
        """The paths that are told apart; all others are one."""

    def _level(self, name: str, told: str) -> Gauge:
        """Add a gauge that adds up over the workers that live."""
        return Gauge(name, told, multiprocess_mode="livesum", registry=self._registry)

    def reject(self, error: Exception) -> None:
        """Count an error if it is that a caller went beyond a limit."""
        kind = kind_of(error)
        if kind.is_limit:
            self._rejected[kind].inc()

    def route_of(self, path: str) -> str:
        """Return what a path is counted as."""
        return path if path in self.routes else _OTHER_ROUTES

    def connections(self, open_now: int, answer_bytes: int) -> None:
        """Tell how many connections there are, and what waits to be sent on them."""
        self._open_connections.set(open_now)
        self._answer_bytes.set(answer_bytes)

    def add_tally(self) -> None:
        """Add what the tally has."""
        tally = self.tally
        requests, answers, reads = tally.requests, tally.answers, tally.reads
        overloaded = tally.overloaded
        tally.clear()
        self._inflight.set(tally.under_way)
        for (route, code), count in Numbers((route, code) for route, code, _ in requests).items():
            self._request_counts(route, str(code)).inc(count)
        for route, count in Numbers(map(self.route_of, overloaded)).items():
            self._request_counts(route, str(_OVERLOADED.status)).inc(count)
            self._rejected[_OVERLOADED].inc(count)
        for route, seconds in by_name((route, seconds) for route, _, seconds in requests).items():
            self._route_seconds(route).observe_all(seconds)
        for route, rows in by_name((answer.route, answer.rows) for answer in answers).items():
            self._route_rows(route).observe_all(rows)
        for operation, seconds in by_name(reads).items():
            self._operation_seconds(operation).observe_all(seconds)
        self._count_parts(answers)

    def _count_parts(self, answers: Iterable[AnsweredRows]) -> None:
        counted: defaultdict[tuple[str, tuple[Part, ...]], list[I64]] = defaultdict(list)
        for answer in answers:
            for version, counts in answer.counts.items():
                counted[version, answer.parts].append(counts)
        for (version, parts), several in counted.items():
            for place, rows in enumerate(np.sum(several, axis=0).tolist()):
                if rows and (part := PARTS[place // STATUSES]) in parts:
                    self._part_counts(version, part, _STATUS_NAMES[place % STATUSES]).inc(rows)

    def user_cache(self) -> tuple[Counter, Counter]:
        """Add the counters of a cache of users' records; there are none without one.

        Returns
        -------
        hits, misses : Counter
        """
        records = self._counter(
            "gkc_user_cache_records",
            "Users' records asked for, by whether the cache of this worker had them.",
            ["result"],
        )
        return records.labels("hit"), records.labels("miss")

    def store_error(self, operation: str) -> None:
        """Count a read of the store that found something lost or damaged."""
        self.store_errors.labels(operation).inc()

    def store_operation(self, operation: str) -> StoreOperation:
        """Time a read of the store, and count it if it fails."""
        return StoreOperation(self, operation)

    def render(self, catalogue: Catalogue | None, is_store_up: bool) -> bytes:
        """Return all values in Prometheus's text format, those of all workers together.

        Raises
        ------
        ServiceNotReadyError
            If the workers' directory is gone.
        """
        with told_if_gone(self._directory):
            return self._rendered(catalogue, is_store_up)

    def _rendered(self, catalogue: Catalogue | None, is_store_up: bool) -> bytes:
        registry = CollectorRegistry()
        if self._directory is None:
            registry.register(self._registry)
        else:
            _forget_dead_workers(self._directory)
            MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        registry.register(_Described(catalogue, is_store_up))
        return generate_latest(registry)


class StoreOperation:
    """Times a read of the store, and counts it if it fails; not a generator, which costs thrice.

    Parameters
    ----------
    metrics : Metrics
    operation : str
        One of `STORE_OPERATIONS`.
    """

    __slots__ = ("_metrics", "_operation", "_started")

    def __init__(self, metrics: Metrics, operation: str) -> None:
        self._metrics = metrics
        self._operation = operation

    def __enter__(self) -> None:
        """Start the clock."""
        self._started = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Tally the time; count an error of the store."""
        tally = self._metrics.tally
        tally.reads.append((self._operation, perf_counter() - self._started))
        tally.schedule()
        if kind is not None and issubclass(kind, StoreError):
            self._metrics.store_error(self._operation)


class _Described(Collector):
    """Describes this build, the store, and what the catalogue holds at this moment."""

    def __init__(self, catalogue: Catalogue | None, is_store_up: bool) -> None:
        self._catalogue = catalogue or Catalogue()
        self._is_store_up = is_store_up

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "gkc_build_info", "The running gkc; always 1.", labels=["version", "python"]
        )
        build.add_metric([gkc.__version__, platform.python_version()], 1.0)
        yield build
        yield GaugeMetricFamily(
            "gkc_store_up",
            "Whether the last look at the catalogue succeeded: 1 or 0.",
            value=float(self._is_store_up),
        )
        info = GaugeMetricFamily(
            "gkc_version_info",
            "The generation that each version serves; always 1.",
            labels=["version", "generation"],
        )
        published = GaugeMetricFamily(
            "gkc_version_published_timestamp_seconds",
            "Unix time at which each version's generation was published.",
            labels=["version"],
        )
        generations = self._catalogue.generations
        for version, entry in self._catalogue.versions.items():
            info.add_metric([version, entry.current], 1.0)
            moment = datetime.fromisoformat(generations[entry.current].published_at)
            published.add_metric([version], moment.timestamp())
        yield info
        yield published


def _forget_dead_workers(directory: Path) -> None:
    """Drop the gauges of workers that were killed, which count what is going on right now."""
    for path in directory.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            path.unlink(missing_ok=True)  # another worker's scrape may forget it, too
