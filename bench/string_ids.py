"""CPU of a service's requests whose ids are strings, beside the same question of numbers.

1 user by 500 items, asked in JSON and answered in safetensors f16, in turns: int64, ASCII, and
strings of which each has a few characters beyond it.

    python -m bench.string_ids [--save]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from typing import Any, Final

import numpy as np
import typer

from bench.exchange import JSON, exchange
from bench.generations import Ids, publish
from bench.options import Rounds, Save
from bench.processes import Server
from bench.results import Figure, Section, tell
from bench.stage import Stage, in_turns, ratios
from bench.world import Shape

SHAPE: Final = Shape(users=5_000, items=200_000, pairs=10)
STEP: Final = 7919
"""Between numbers that are ids."""
ROWS: Final = 500
QUESTIONS: Final = 1_000
"""CPU time is counted in hundredths of a second."""

MADE: Final[dict[str, Callable[[str, int], Any]]] = {
    "int64": lambda kind, number: number,
    "ASCII": lambda kind, number: f"{kind}-{number:09d}",
    "beyond": lambda kind, number: f"{kind}-商品é-{number:06d}",
}
"""Of each version, the id that stands for a number."""
TOLD: Final = {"ASCII": "strings of ASCII", "beyond": "strings beyond ASCII"}


def main(*, rounds: Rounds = 10, save: Save = False) -> None:
    """Publish a version of each, ask a service in turns, and tell."""
    with Stage() as stage:
        store = f"file:{stage.folder / 'store'}"
        for version in MADE:
            users, items = (
                ids(version, kind, count)
                for kind, count in (("user", SHAPE.users), ("item", SHAPE.items))
            )
            publish(store, version, SHAPE, users, items)
        service = stage.serve(store)
        with closing(HTTPConnection("127.0.0.1", service.port)) as connection:
            measures = {
                version: partial(cpu_us, service, connection, bodies(version)) for version in MADE
            }
            times = in_turns(measures, rounds)
    tell(section(times), save=save)


def ids(version: str, kind: str, count: int) -> Ids:
    """Return the ids of a kind."""
    made = [MADE[version](kind, k * STEP) for k in range(count)]
    return Ids.numbers(made) if version == "int64" else Ids.texts(made)


def bodies(version: str) -> list[bytes]:
    """Draw questions, of the same numbers in each version."""
    rng, made = np.random.default_rng(1), MADE[version]
    return [
        json.dumps(
            {
                "u": made("user", int(rng.integers(SHAPE.users)) * STEP),
                "i": [made("item", k * STEP) for k in rng.integers(0, SHAPE.items, ROWS).tolist()],
                "v": version,
                "dtype": "f16",
            },
            ensure_ascii=False,
        ).encode()
        for _ in range(QUESTIONS)
    ]


def cpu_us(service: Server, connection: HTTPConnection, asked: Sequence[bytes]) -> float:
    """Ask, and return the CPU time that the service takes a request, in microseconds."""
    before = service.cpu_seconds()
    for body in asked:
        exchange(connection, body, JSON)
    return 1e6 * (service.cpu_seconds() - before) / len(asked)


def section(times: Mapping[str, Sequence[float]]) -> Section:
    """Put the microseconds of each round in the form that is told."""
    return Section(
        module="bench.string_ids",
        title="String ids",
        method=(
            f"CPU time of the service for a request: 1 user by {ROWS} items, asked in JSON, "
            f"answered in safetensors f16, one at a time. Three versions of {SHAPE.users:,} users "
            f"and {SHAPE.items:,} items in `file:`, asked in turns for the same rows: int64, "
            f"`{MADE['ASCII']('item', STEP)}` and `{MADE['beyond']('item', STEP)}` and their like. "
            f"A round is {QUESTIONS:,} requests."
        ),
        figures=[
            *(
                Figure(
                    f"CPU time of a request, {told}, to int64",
                    ratios(times[version], times["int64"]),
                    target=1.35,
                    stretch=1.15,
                    at_most=True,
                )
                for version, told in TOLD.items()
            ),
            Figure("CPU time of a request, int64", times["int64"], "us"),
        ],
    )


if __name__ == "__main__":
    typer.run(main)
