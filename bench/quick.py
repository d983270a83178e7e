"""Whether the hot path became slower: CPU time of a request without sockets, against a record.

The service answers from an embedded store inside this process, in turns with the empty FastAPI
route of `bench.servers.empty`; a cost is the best CPU time of a round as a multiple of the empty
route's best. Kept beside this file is what they were when someone last looked; more than a quarter
above that is told, and ends with status 1.

    python -m bench.quick [--record]
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop
from starlette.types import ASGIApp

from bench.in_process import SAFETENSORS, ask
from bench.report import circumstances, print_circumstances, spread
from bench.servers.empty import app as empty_app
from bench.world import VERSION, Shape, export, questions
from gkc.http.app import Service
from gkc.settings import Settings
from gkc.store import open_reader

BASELINE: Final = Path(__file__).parent / "quick_baseline.json"
TOLERATED: Final = 1.25
SHAPE: Final = Shape(users=5_000, items=50_000)
ROUNDS: Final = 15
REQUESTS: Final = 100
CASES: Final[dict[str, tuple[int, str, dict[str, str]]]] = {
    "B = 1, rows": (1, SAFETENSORS, {"dtype": "f16"}),
    "B = 50, rows": (50, SAFETENSORS, {"dtype": "f16"}),
    "B = 500, rows": (500, SAFETENSORS, {"dtype": "f16"}),
    "B = 500, factored": (500, SAFETENSORS, {"layout": "factored"}),
    "B = 500, JSON": (500, "application/json", {}),
}


def main(
    *,
    record: Annotated[bool, typer.Option("--record", help="Keep these as the baseline.")] = False,
) -> None:
    """Measure, compare with the record, and fail if something became slower."""
    print_circumstances("bench.quick")
    with tempfile.TemporaryDirectory() as scratch:
        store = f"file:{scratch}/store"
        export(Path(scratch) / "bundle", SHAPE, store)
        costs = uvloop.run(measure(store))
    if record:
        kept = {
            "circumstances": circumstances("bench.quick"),
            "costs": {name: round(statistics.median(values), 3) for name, values in costs.items()},
        }
        BASELINE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    before: dict[str, float] = json.loads(BASELINE.read_text(encoding="utf-8"))["costs"]
    print(f"{'request':18} {'times an empty one':26} {'recorded':>9}")
    slower = []
    for name, values in costs.items():
        print(f"{name:18} {spread(values):26} {before[name]:9.2f}")
        if statistics.median(values) > TOLERATED * before[name]:
            slower.append(name)
    if slower:
        print(f"slower than recorded: {'; '.join(slower)}", file=sys.stderr)
        raise typer.Exit(1)


async def measure(store: str) -> dict[str, list[float]]:
    """Return for each case the rounds' best CPU times, as multiples of the empty route's."""
    settings = Settings(store_url=store, store_timeout_ms=60_000)  # loads take long here and there
    service = Service(settings, open_reader(store))
    async with service.lifespan():
        await service.serving.resolve_anew([VERSION])  # waits until it is loaded
        costs: dict[str, list[float]] = {name: [] for name in CASES}
        for number in range(ROUNDS):
            for name, (rows, accept, extra) in CASES.items():
                drawn = questions(SHAPE, rows, REQUESTS, seed=number, **extra)
                bodies = [json.dumps(body).encode() for body in drawn]
                floor = await least_seconds(empty_app, bodies, accept)
                costs[name].append(await least_seconds(service, bodies, accept) / floor)
        return costs


async def least_seconds(app: ASGIApp, bodies: Sequence[bytes], accept: str) -> float:
    """Return the least CPU seconds that an application took for one of the requests."""
    return min([await ask(app, body, accept) for body in bodies])


if __name__ == "__main__":
    typer.run(main)
