"""Assembly against copying the answer, JSON against orjson alone: steps without a service.

python -m bench.kernels [--save]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import orjson
import typer

from bench.id_lookup import make_table
from bench.results import Figure, Section, tell
from gkc.knowledge import FOUND, PARTS, Factors, assemble, part_spans
from gkc.http.acceleration import accelerate
from gkc.http.encoding import encode_json
from gkc.center.question import RowsAnswer
from gkc.store import hash_ids

ROWS: Final = 500
DIM: Final = 64
PAIRS: Final = 40
ITEMS: Final = 1_000_000
WORLDS: Final = 20
"""Different answers that take turns, so that none finds its own data in the nearest cache."""
CALLS: Final = 200
Step = Callable[[int], object]


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 15,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Time each step and what it is compared with, in turns, and tell."""
    with tempfile.TemporaryDirectory() as folder:
        ids = np.arange(ITEMS, dtype=np.int64)
        ids = ids[np.argsort(hash_ids(ids))]
        table = make_table(Path(folder) / "items.gkt", ids, stride=2 * DIM)
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, ITEMS, ROWS) for _ in range(WORLDS)]
    factors = [_factors(seed) for seed in range(WORLDS)]
    halves = [assemble(one, dtype=np.float16) for one in factors]
    answers = [RowsAnswer({"v": "g"}, SPANS, assemble(one), one.status) for one in factors]
    dictionaries = [
        {
            "versions": a.versions,
            "parts": dict(a.spans),
            "knowledge": a.knowledge,
            "status": a.status,
        }
        for a in answers
    ]
    steps: dict[str, Step] = {
        "assemble": lambda k: assemble(factors[k], dtype=np.float16),
        "assemble f32": lambda k: assemble(factors[k]),
        "items": lambda k: table.take(table.rows_of(asked[k])),
        "50 items": lambda k: table.take(table.rows_of(asked[k][:50])),
    }
    by_numpy = _times(steps, rounds)
    without = accelerate()
    times = _times(
        {
            **steps,
            "memcpy": lambda k: halves[k].copy(),
            "memcpy f32": lambda k: answers[k].knowledge.copy(),
            "orjson": lambda k: orjson.dumps(dictionaries[k], option=orjson.OPT_SERIALIZE_NUMPY),
            "JSON": lambda k: encode_json(answers[k]),
        },
        rounds,
    )

    def ratio(over: list[float], under: str) -> list[float]:
        return [one / other for one, other in zip(over, times[under], strict=True)]

    def saved(step: str) -> list[float]:
        return ratio(by_numpy[step], step)

    where = f"B = {ROWS}, D = {DIM}"
    kernel = ratio(times["assemble"], "memcpy")
    json = ratio(times["JSON"], "orjson")
    figures = [
        Figure(f"assembly to memcpy, f16, {where}", kernel, target=5, stretch=3, at_most=True),
        Figure(f"the same by numpy alone, {where}", ratio(by_numpy["assemble"], "memcpy")),
        Figure(f"assembly to memcpy, f32, {where}", ratio(times["assemble f32"], "memcpy f32")),
        Figure(f"assembly by numpy alone to compiled, f32, {where}", saved("assemble f32")),
        Figure(
            f"items looked up by numpy alone to compiled, B = {ROWS}, D = {DIM}", saved("items")
        ),
        Figure(f"items looked up by numpy alone to compiled, B = 50, D = {DIM}", saved("50 items")),
        Figure(f"JSON to orjson alone, f32, {where}", json, target=1.2, stretch=1.0, at_most=True),
    ]
    section = Section(
        module="bench.kernels",
        title="Assembly and JSON by themselves",
        method=(
            f"One user by {ROWS} items, {PAIRS} stored pairs. Assembly is `gkc.knowledge.assemble` "
            f"of stored halves; memcpy is a copy of its answer into new memory, as the answer has "
            f"it. JSON is `encode_json` of the f32 answer, against `orjson.dumps` of the same "
            f"dictionary of arrays. Items are looked up and copied out of a table of {ITEMS:,}. "
            f"{WORLDS} answers take turns; a time is the best of {CALLS} calls in each of {rounds} "
            f"rounds, so all that is read is in a cache. By numpy alone: the rounds before numba "
            f"was asked for."
        ),
        figures=figures,
        notes=[f"Rows were laid by numpy: {without}."] if without else (),
        packages=("numba",) if not without else (),
    )
    tell(section, save=save)


SPANS = part_spans(PARTS, DIM, DIM)


def _factors(seed: int) -> Factors:
    """Make the factors of one answer, as an f16 store hands them over."""
    rng = np.random.default_rng(seed)

    def vectors(rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
        return rng.standard_normal((rows, DIM)).astype(np.float16)

    return Factors(
        user=vectors(1),
        user_index=np.zeros(1, dtype=np.int64),
        item=vectors(ROWS),
        user_category=vectors(PAIRS),
        user_category_index=rng.integers(0, PAIRS, ROWS),
        status=np.full((ROWS, len(PARTS)), FOUND, dtype=np.uint8),
    )


def _times(steps: Mapping[str, Step], rounds: int) -> dict[str, list[float]]:
    """Return the best time of each step in each round, the steps taking turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(min(_time(step, call % WORLDS) for call in range(CALLS)))
    return times


def _time(step: Step, which: int) -> float:
    began = time.perf_counter()
    step(which)
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
