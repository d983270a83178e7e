"""What ``bench.feast`` measures, and how it is told: ratios of rounds, absolute values as notes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.load import Load
from bench.report import spread
from bench.results import Figure, Section
from bench.world import Shape

ROWS = (500, 50)
TARGET_ROWS = 500
TARGET, STRETCH = 50, 150
OURS, FACTORED = "ours", "factored"
"""Our two layouts: whole rows, and the parts in stored precision, which is what Feast hands out."""
FASTEST = "bytes"
"""Of Feast's forms: the targets are for it, and the SDK is asked in it."""
SHOWN = {
    OURS: "ours",
    FACTORED: "our `factored`",
    "bytes": "Feast",
    "floats": "Feast with `Array(Float32)`",
}
COMPARED = ((OURS, "bytes"), (FACTORED, "bytes"), (OURS, "floats"))
ONE, SEVERAL = 1, 4
"""Requests under way: p50 is measured with the first, throughput and CPU time with the second."""
CHECKED = 20
"""Requests of each number of rows whose answers are compared before anything is timed."""

METHOD = """\
Feast holds the vectors of {users:,} of the version's {all_users:,} users, with their {pairs} \
pairs each, and of {items:,} of its {all_items:,} items. Both sides are asked for these only, \
drawn evenly, by the same requests from the same wrk. Our answer is whole rows, f16 safetensors; \
beside it `factored`, the distinct K_u, K_i and K_uc as f16. Feast's answer is K_u, K_i and K_uc \
of every row as JSON. It has a view for each kind of key and a vector as one feature: the bytes of \
its float16, base64 in the answer, which is the fastest form and the one that the targets are for; \
beside it `Array(Float32)`, the ordinary type for a vector. Feast reads each distinct key once, \
all in one pipeline. `feast serve` runs one worker without access log, without restarts after a \
number of requests and without refreshes of the registry. The SDK's time ends before its answer is \
made a dictionary. Before the timing, {checked} answers of each size and form were compared to the \
bit. Loading: for Feast the time inside `write_to_online_store` (bytes, without reading earlier \
timestamps), a new part of the {loaded:,} vectors every round; for us `python -m exporter` of all \
of them from start to end, with the models, reading back and publication."""


@dataclass(frozen=True)
class Found:
    """What was measured; every list has an entry for each round."""

    loads: dict[tuple[str, int, int], list[Load]] = field(default_factory=lambda: defaultdict(list))
    """By side, rows and requests under way."""
    sdk_ms: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Median time of a call of the SDK, by rows."""
    ours_loaded: list[float] = field(default_factory=list)
    """Vectors per second of the exporter."""
    feast_loaded: list[float] = field(default_factory=list)
    """Vectors per second of ``write_to_online_store``."""

    def p50_ms(self, side: str, rows: int) -> list[float]:
        """Return the medians of requests that were alone."""
        return [load.p50_ms for load in self.loads[side, rows, ONE]]

    def rates(self, side: str, rows: int) -> list[float]:
        """Return the answers per second to several requests at a time."""
        return [load.rate for load in self.loads[side, rows, SEVERAL]]

    def cpu_ms(self, side: str, rows: int) -> list[float]:
        """Return the server's CPU time per request under that load."""
        return [load.cpu_ms for load in self.loads[side, rows, SEVERAL]]


def section(whole: Shape, part: Shape, found: Found, versions: dict[str, str]) -> Section:
    """Put what was found in the suite's form.

    Parameters
    ----------
    whole, part : Shape
        The version, and what of it Feast holds.
    found : Found
        What was measured.
    versions : dict of str to str
        Packages of Feast's environment.

    Returns
    -------
    Section
        Ratios of the rounds, absolute values in the notes.
    """
    figures = [
        figure for pair in COMPARED for rows in ROWS for figure in _over_http(found, *pair, rows)
    ]
    for rows in ROWS:
        values = _ratios(found.sdk_ms[rows], found.p50_ms(OURS, rows))
        name = f"p50 of Feast's SDK, no HTTP, to p50 of ours over HTTP, B = {rows}"
        figures.append(Figure(name, values, digits=1))
    loading = _ratios(found.ours_loaded, found.feast_loaded)
    figures.append(Figure("loading rate of the exporter to `write_to_online_store`", loading))
    method = METHOD.format(
        users=part.users,
        all_users=whole.users,
        items=part.items,
        all_items=whole.items,
        pairs=part.pairs,
        checked=CHECKED,
        loaded=vectors_of(part),
    )
    environment = ", ".join(f"{name} {version}" for name, version in versions.items())
    notes = [_absolute(found, rows) for rows in ROWS]
    notes += [
        f"Vectors loaded per second: ours {spread(found.ours_loaded, 0)}, "
        f"Feast {spread(found.feast_loaded, 0)}.",
        f"Feast's environment: {environment}.",
    ]
    return Section("bench.feast", "Beside Feast", method, figures, notes=notes)


def vectors_of(shape: Shape) -> int:
    """Return how many vectors a shape has: users, pairs and items."""
    return shape.users * (1 + shape.pairs) + shape.items


def _over_http(found: Found, layout: str, form: str, rows: int) -> list[Figure]:
    """Compare Feast's server in one form with ours in one layout."""
    ours, feast = SHOWN[layout], SHOWN[form]
    is_target = (layout, form, rows) == (OURS, FASTEST, TARGET_ROWS)
    target, stretch = (TARGET, STRETCH) if is_target else (None, None)
    return [
        Figure(
            f"p50 over HTTP, {feast} to {ours}, B = {rows}",
            _ratios(found.p50_ms(form, rows), found.p50_ms(layout, rows)),
            target=target,
            stretch=stretch,
            digits=1,
        ),
        Figure(
            f"throughput over HTTP, {ours} to {feast}, concurrency {SEVERAL}, B = {rows}",
            _ratios(found.rates(layout, rows), found.rates(form, rows)),
            target=target,
            stretch=stretch,
            digits=1,
        ),
        Figure(
            f"CPU time of the server per request, {feast} to {ours}, B = {rows}",
            _ratios(found.cpu_ms(form, rows), found.cpu_ms(layout, rows)),
            digits=1,
        ),
    ]


def _absolute(found: Found, rows: int) -> str:
    told = []
    for side, shown in SHOWN.items():
        p50, rate = spread(found.p50_ms(side, rows)), spread(found.rates(side, rows), 0)
        told.append(f"{shown} {p50} ms, {rate} requests/s")
    sdk = f"Feast's SDK {spread(found.sdk_ms[rows])} ms"
    return f"B = {rows}, p50 alone and throughput: {'; '.join((*told, sdk))}."


def _ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(over, under, strict=True)]
