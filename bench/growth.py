"""How time and memory grow: with items, users, rows, versions, requests under way, widths, types.

In each part one service holds several versions of different sizes and is asked for them in turns,
so that points of one curve are measured in one run.

    python -m bench.growth [--save]
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from bench.load import Load, load, write_bodies
from bench.processes import (
    Server,
    free_port,
    our_service,
    redis_serving,
    separate_cores,
    serving,
)
from bench.results import Curve, Figure, Line, Section, tell
from bench.world import Shape, export, questions
from keep.served import SAFETENSORS

ROWS: Final = 500
BODIES: Final = 1_000
MOST_ROWS_WRITTEN: Final = 500_000
"""Of one file of requests; requests of very many rows are fewer."""
ALL_ROWS: Final = (1, 5, 50, 500, 2_000, 10_000)
ALL_CONCURRENCY: Final = (1, 4, 16, 64, 256)
ALL_WIDTHS: Final = (16, 64, 128, 192, 256)
ALL_DTYPES: Final = ("f16", "f32", "int8")
DTYPE_ROWS: Final = (1, 50, 500, 2_000)
ALL_WORKERS: Final = (1, 2)
ALL_DISTINCT: Final = (1, 5, 50, 500)
MOST_VERSIONS: Final = 5
SMALL: Final = Shape(users=10_000, items=10_000)
Bodies = list[dict[str, Any]]
Points = Sequence[tuple[int, Sequence[Load]]]
"""Points of a curve before it is known what of their runs it shows."""


@dataclass(frozen=True)
class _Bench:
    """How everything is measured."""

    rounds: int
    seconds: int
    own: Collection[int]
    others: Collection[int]

    def runs(
        self,
        server: Server | Mapping[str, Server],
        cases: Mapping[str, Path],
        concurrency: Mapping[str, int] | None = None,
    ) -> dict[str, list[Load]]:
        """Ask one server, or each case's own, for every case in each round; return its runs."""
        runs: dict[str, list[Load]] = {name: [] for name in cases}
        for _ in range(self.rounds):
            for name, bodies in cases.items():
                found = load(
                    server if isinstance(server, Server) else server[name],
                    bodies,
                    SAFETENSORS,
                    self.others,
                    concurrency=concurrency[name] if concurrency else 1,
                    seconds=self.seconds,
                )
                if found.failed or not found.requests:
                    raise SystemExit(f"{name}: {found.failed} of {found.requests} requests failed")
                runs[name].append(found)
        return runs

    @contextmanager
    def service(
        self, folder: Path, shapes: Mapping[str, Shape], *more: str, wide: bool = False
    ) -> Iterator[Server]:
        """Export a version of each shape, and serve them all; ``wide`` on all cores."""
        folder.mkdir()
        with redis_serving(folder, self.others) as (_, url):
            for version, shape in shapes.items():
                export(folder / version, shape, url, version)
            port = free_port()
            cores = {*self.own, *self.others} if wide else self.own
            command = our_service(url, port, *more)
            with serving("gkc serve", command, port, cores, "/readyz") as server:
                yield server


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Repeats of every point.")] = 5,
    seconds: Annotated[int, typer.Option(help="Of one run of wrk.")] = 1,
    most_items: Annotated[int, typer.Option(help="Of the largest version.")] = 10_000_000,
    most_users: Annotated[int, typer.Option(help="Of the largest version.")] = 1_000_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure every curve, and tell."""
    own, others = separate_cores()
    bench = _Bench(rounds, seconds, own, others)
    figures: list[Figure] = []
    curves: list[Curve] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, part in PARTS.items():
            print(f"{name} ...", flush=True)
            found = part(bench, Path(scratch) / name, {"items": most_items, "users": most_users})
            figures += found[0]
            curves += found[1]
    section = Section(
        module="bench.growth",
        title="Growth",
        method=(
            f"Unless a curve says otherwise: 1 user by {ROWS} candidates, safetensors rows in f16, "
            f"D = 64, one request under way, p50 of wrk; one worker on a core of its own, Redis "
            f"and wrk on the others. {rounds} rounds of {seconds} s for each point, the points of "
            f"a curve in turns. Bars are the range of the rounds. Memory is the most that the "
            f"service had resident, its tables included, in the first round, which goes up: it "
            f"gives little back. How it grows with items and workers is under *Start and memory*; "
            f"users lie in Redis."
        ),
        figures=figures,
        curves=curves,
    )
    tell(section, save=save)


Found = tuple[list[Figure], list[Curve]]


def _items(bench: _Bench, folder: Path, most: Mapping[str, int]) -> Found:
    """Measure versions of 10⁴ items and more."""
    sizes = _decades(10_000, most["items"])
    shapes = {f"items-{n}": dataclasses.replace(SMALL, users=1_000, items=n) for n in sizes}
    with bench.service(folder, shapes) as server:
        cases = {v: _written(folder, v, _asked(shape, v, ROWS)) for v, shape in shapes.items()}
        runs = bench.runs(server, cases)
    points = [(n, _p50(runs[f"items-{n}"])) for n in sizes]
    ratio = _ratio(points[-1][1], points[0][1])
    name = f"p50 with {sizes[-1]:,} items to {sizes[0]:,}"
    figure = Figure(name, ratio, target=1.3, stretch=1.15, at_most=True)
    curve = Curve("growth-items", "Items of the version", "items", "p50, ms", {"f16": points})
    return [figure], [curve]


def _users(bench: _Bench, folder: Path, most: Mapping[str, int]) -> Found:
    """Measure versions of 10³ users and more, with few pairs each so that they fit."""
    sizes = _decades(1_000, most["users"])
    shapes = {f"users-{n}": dataclasses.replace(SMALL, users=n, pairs=5) for n in sizes}
    with bench.service(folder, shapes) as server:
        cases = {v: _written(folder, v, _asked(shape, v, ROWS)) for v, shape in shapes.items()}
        runs = bench.runs(server, cases)
    points = [(n, _p50(runs[f"users-{n}"])) for n in sizes]
    name = f"p50 with {sizes[-1]:,} users to {sizes[0]:,}"
    figure = Figure(name, _ratio(points[-1][1], points[0][1]))
    memory = _memory("users of the version", [(n, runs[f"users-{n}"]) for n in sizes])
    curve = Curve("growth-users", "Users of the version", "users", "p50, ms", {"f16": points})
    return [figure, memory], [curve]


def _one_service(bench: _Bench, folder: Path, _: Mapping[str, int]) -> Found:
    """Measure rows, distinct users, requests under way, and versions, all of one shape."""
    names = [f"v{k}" for k in range(1, MOST_VERSIONS + 1)]
    shapes = dict.fromkeys(names, SMALL)
    first = names[0]
    with (
        bench.service(folder, {first: SMALL}) as alone,
        bench.service(folder / "all", shapes) as server,
    ):
        file = _written(folder, "alone", _asked(SMALL, first, ROWS))
        both = bench.runs({"one": alone, "all": server}, {"one": file, "all": file})
        by_rows = {
            layout: _by_rows(bench, server, folder, first, ALL_ROWS, layout=layout)
            for layout in ("rows", "factored")
        }
        distinct = _by_distinct(bench, server, folder, first)
        under_way = {str(c): c for c in ALL_CONCURRENCY}
        file = _written(folder, "under-way", _asked(SMALL, first, ROWS))
        by_concurrency = bench.runs(server, dict.fromkeys(under_way, file), under_way)
        served = {f"{k}": _written(folder, f"mixed-{k}", _mixed(names[:k])) for k in range(1, 6)}
        mixed = bench.runs(server, served)
    figures = [
        Figure(
            f"p50 where {MOST_VERSIONS} versions are served to where one is",
            _ratio(_p50(both["all"]), _p50(both["one"])),
            target=1.1,
            stretch=1.05,
            at_most=True,
        ),
        Figure(
            f"p50 of a request that names {MOST_VERSIONS} versions to one that names one",
            _ratio(_p50(mixed[str(MOST_VERSIONS)]), _p50(mixed["1"])),
        ),
    ]
    concurrency = [(c, by_concurrency[str(c)]) for c in ALL_CONCURRENCY]
    named = [(int(k), runs) for k, runs in mixed.items()]
    figures += [
        _memory("versions served", [(1, both["one"]), (MOST_VERSIONS, both["all"])]),
        _memory("rows of a request", by_rows["rows"]),
        _memory(f"distinct users in {ROWS} rows", distinct),
        _memory("requests under way", concurrency),
        _memory("versions that a request names", named),
    ]
    under_way_axes = "Requests under way", "requests under way"
    curves = [
        Curve("growth-rows", "Rows of a request", "rows", "p50, ms", _p50s(by_rows), log_y=True),
        Curve(
            "growth-distinct",
            f"Distinct users in {ROWS} rows",
            "users",
            "p50, ms",
            _p50s({"f16": distinct}),
        ),
        Curve(
            "growth-concurrency",
            *under_way_axes,
            "requests/s",
            {"throughput": [(c, [run.rate for run in runs]) for c, runs in concurrency]},
        ),
        Curve(
            "growth-concurrency-p50",
            *under_way_axes,
            "p50, ms",
            _p50s({"f16": concurrency}),
            log_y=True,
        ),
        Curve(
            "growth-concurrency-memory",
            *under_way_axes,
            "MiB",
            {"f16": [(c, [runs[0].peak_mib]) for c, runs in concurrency]},
        ),
        Curve(
            "growth-versions",
            "Versions that one request names",
            "versions",
            "p50, ms",
            _p50s({"f16": named}),
        ),
    ]
    return figures, curves


def _by_rows(
    bench: _Bench, server: Server, folder: Path, version: str, sizes: Sequence[int], **more: str
) -> Points:
    """Measure requests of so many rows; ``more`` is what else they ask."""
    files = {}
    for rows in sizes:
        name = "-".join(("rows", version, str(rows), *more.values()))
        files[str(rows)] = _written(folder, name, _asked(SMALL, version, rows, **more))
    runs = bench.runs(server, files)
    return [(rows, runs[str(rows)]) for rows in sizes]


def _by_distinct(bench: _Bench, server: Server, folder: Path, version: str) -> Points:
    """Measure requests whose rows name several users."""
    files = {}
    for users in ALL_DISTINCT:
        asked = _asked(SMALL, version, ROWS)
        drawn = list(dict.fromkeys(body["u"] for body in asked))
        for k, body in enumerate(asked):
            own = [drawn[(k + j) % len(drawn)] for j in range(users)]
            body["u"] = [own[row % users] for row in range(ROWS)]
        files[str(users)] = _written(folder, f"distinct-{users}", asked)
    runs = bench.runs(server, files)
    return [(users, runs[str(users)]) for users in ALL_DISTINCT]


def _widths(bench: _Bench, folder: Path, _: Mapping[str, int]) -> Found:
    """Measure vectors of several widths."""
    shapes = {f"d{dim}": dataclasses.replace(SMALL, dim=dim) for dim in ALL_WIDTHS}
    with bench.service(folder, shapes) as server:
        cases = {v: _written(folder, v, _asked(SMALL, v, ROWS)) for v in shapes}
        runs = bench.runs(server, cases)
    points = [(dim, _p50(runs[f"d{dim}"])) for dim in ALL_WIDTHS]
    return [], [Curve("growth-width", "Width D of a vector", "D", "p50, ms", {"f16": points})]


def _dtypes(bench: _Bench, folder: Path, _: Mapping[str, int]) -> Found:
    """Compare what is stored as f16, f32 and int8, asked for as f16 and as f32."""
    shapes = {dtype: dataclasses.replace(SMALL, dtype=dtype) for dtype in ALL_DTYPES}
    pairs = [(stored, answered) for stored in ALL_DTYPES for answered in ("f16", "f32")]
    with bench.service(folder, shapes) as server:
        cases = {
            f"{stored} as {answered}": _written(
                folder,
                f"{stored}-{answered}",
                _asked(SMALL, stored, ROWS, dtype=answered),
            )
            for stored, answered in pairs
        }
        runs = bench.runs(server, cases)
        by_rows = {
            f"stored as {stored}": _by_rows(bench, server, folder, stored, DTYPE_ROWS)
            for stored in ALL_DTYPES
        }
    base = _p50(runs["f16 as f16"])
    figures = [
        Figure(f"p50, stored {name}, to stored f16 as f16", _ratio(_p50(found), base))
        for name, found in runs.items()
        if name != "f16 as f16"
    ]
    title = "Rows of a request, answered as f16"
    return figures, [Curve("growth-dtypes", title, "rows", "p50, ms", _p50s(by_rows), log_y=True)]


def _workers(bench: _Bench, folder: Path, _: Mapping[str, int]) -> Found:
    """Compare the throughput of two workers with that of one, all cores for everybody."""
    folder.mkdir()
    file = _written(folder, "asked", _asked(SMALL, "v1", ROWS))
    with ExitStack() as stack:
        servers = {}
        for workers in map(str, ALL_WORKERS):
            more = ("--workers", workers)
            service = bench.service(folder / workers, {"v1": SMALL}, *more, wide=True)
            servers[workers] = stack.enter_context(service)
        runs = bench.runs(servers, dict.fromkeys(servers, file), dict.fromkeys(servers, 16))
    rates = {int(workers): [run.rate for run in found] for workers, found in runs.items()}
    name = "throughput of 2 workers to 1, all on the same cores, 16 requests under way"
    title = "Workers, all on the same cores, 16 requests under way"
    lines = {"throughput": list(rates.items())}
    curve = Curve("growth-workers", title, "workers", "requests/s", lines)
    return [Figure(name, _ratio(rates[2], rates[1]))], [curve]


PARTS: Final[dict[str, Callable[[_Bench, Path, Mapping[str, int]], Found]]] = {
    "items": _items,
    "users": _users,
    "one-service": _one_service,
    "widths": _widths,
    "dtypes": _dtypes,
    "workers": _workers,
}


def _decades(first: int, last: int) -> list[int]:
    sizes = [first]
    while sizes[-1] * 10 <= last:
        sizes.append(sizes[-1] * 10)
    return sizes


def _asked(shape: Shape, version: str, rows: int, **more: str) -> Bodies:
    """Draw requests for one version; f16 rows unless ``more`` says otherwise."""
    count = max(10, min(BODIES, MOST_ROWS_WRITTEN // rows))
    drawn = questions(shape, rows, count, seed=1)
    return [{**body, "dtype": "f16", **more, "v": version} for body in drawn]


def _mixed(versions: Sequence[str]) -> Bodies:
    """Draw requests whose rows name these versions in turn."""
    asked = _asked(SMALL, versions[0], ROWS)
    if len(versions) > 1:
        named = np.resize(np.array(versions), ROWS).tolist()
        for body in asked:
            body["v"] = named
    return asked


def _written(folder: Path, name: str, bodies: Bodies) -> Path:
    return write_bodies(bodies, folder / f"{name}.jsonl")


def _p50(runs: Sequence[Load]) -> list[float]:
    return [run.p50_ms for run in runs]


def _p50s(lines: Mapping[str, Points]) -> dict[str, Line]:
    return {line: [(at, _p50(runs)) for at, runs in points] for line, points in lines.items()}


def _memory(what: str, points: Points) -> Figure:
    """Compare the memory at the last point with that at the first, in the first round."""
    (first, few), *_, (last, many) = points
    name = f"memory, {last:,} {what} to {first:,}"
    return Figure(name, [many[0].peak_mib / few[0].peak_mib])


def _ratio(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(over, under, strict=True)]


if __name__ == "__main__":
    typer.run(main)
