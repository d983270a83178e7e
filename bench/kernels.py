"""Assembly against copying the answer, and JSON against orjson alone: steps without a service.

python -m bench.kernels [--save]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Final

import numpy as np
import orjson
import typer

from bench.results import Figure, Section, tell
from gkc.halves import accelerate
from gkc.knowledge import FOUND, PARTS, Factors, assemble, part_spans
from gkc.service.encoding import encode_json
from gkc.service.schemas import RowsAnswer

ROWS: Final = 500
DIM: Final = 64
PAIRS: Final = 40
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
    factors = [_factors(seed) for seed in range(WORLDS)]
    halves = [assemble(one, dtype=np.float16) for one in factors]
    answers = [RowsAnswer({"v": "g"}, SPANS, assemble(one), one.status) for one in factors]
    dictionaries = [
        {"versions": a.versions, "parts": a.spans, "knowledge": a.knowledge, "status": a.status}
        for a in answers
    ]
    by_numpy = _times({"assemble": lambda k: assemble(factors[k], dtype=np.float16)}, rounds)
    without = accelerate()
    times = _times(
        {
            "memcpy": lambda k: halves[k].copy(),
            "assemble": lambda k: assemble(factors[k], dtype=np.float16),
            "memcpy f32": lambda k: answers[k].knowledge.copy(),
            "assemble f32": lambda k: assemble(factors[k]),
            "orjson": lambda k: orjson.dumps(dictionaries[k], option=orjson.OPT_SERIALIZE_NUMPY),
            "JSON": lambda k: encode_json(answers[k]),
        },
        rounds,
    )

    def ratio(over: list[float], under: str) -> list[float]:
        return [one / other for one, other in zip(over, times[under], strict=True)]

    where = f"B = {ROWS}, D = {DIM}"
    kernel = ratio(times["assemble"], "memcpy")
    json = ratio(times["JSON"], "orjson")
    figures = [
        Figure(f"assembly to memcpy, f16, {where}", kernel, target=5, stretch=3, at_most=True),
        Figure(f"the same by numpy alone, {where}", ratio(by_numpy["assemble"], "memcpy")),
        Figure(f"assembly to memcpy, f32, {where}", ratio(times["assemble f32"], "memcpy f32")),
        Figure(f"JSON to orjson alone, f32, {where}", json, target=1.2, stretch=1.0, at_most=True),
    ]
    section = Section(
        module="bench.kernels",
        title="Assembly and JSON by themselves",
        method=(
            f"One user by {ROWS} items, {PAIRS} stored pairs. Assembly is `gkc.knowledge.assemble` "
            f"of stored halves; memcpy is a copy of its answer into new memory, as the answer has "
            f"it. JSON is `encode_json` of the f32 answer, against `orjson.dumps` of the same "
            f"dictionary of arrays. {WORLDS} answers take turns; a time is the best of {CALLS} "
            f"calls in each of {rounds} rounds."
        ),
        figures=figures,
        notes=[f"Halves were multiplied by numpy: {without}."] if without else (),
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
