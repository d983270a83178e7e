"""What the cache of users' records saves under Zipf traffic, and what it takes.

Services that differ in ``GKC_USER_CACHE_MB`` only answer the same requests in turns; users follow
Zipf's law, so that a few of them make up most of the traffic.

    python -m bench.user_cache [--save]
"""

from __future__ import annotations

import re
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from bench.bundles import USER_ID_STEP
from bench.load import Load, load, write_bodies
from bench.processes import Server, free_port, our_service, separate_cores, serving
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.world import Shape, World, world
from keep.served import SAFETENSORS

ROWS: Final = 50
CONCURRENCY: Final = 4
REQUESTS_PER_SECOND: Final = 6_000
"""More than any service answers: each run has new requests to the end."""
EXPONENT: Final = 1.0
SIZES_MB: Final = (0, 16, 64, 256)


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Runs of each service.")] = 5,
    seconds: Annotated[int, typer.Option(help="Of one run.")] = 3,
    users: Annotated[int, typer.Option(help="Users of the version.")] = Shape.users,
    items: Annotated[int, typer.Option(help="Items of the version.")] = 100_000,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures for the page.")] = False,
) -> None:
    """Measure in turns, and tell."""
    own, others = separate_cores()
    shape = Shape(users=users, items=items)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        knowledge = stack.enter_context(world(Path(scratch), shape, others))
        servers: dict[int, Server] = {}
        for size in SIZES_MB:
            port, cache = free_port(), {"GKC_USER_CACHE_MB": str(size)}
            command = our_service(knowledge.url, port)
            running = serving(f"{size} MB", command, port, own, "/readyz", cache)
            servers[size] = stack.enter_context(running)
        runs: dict[int, list[Load]] = {size: [] for size in SIZES_MB}
        before = {size: server.resident_mib() for size, server in servers.items()}
        for number in range(rounds):
            drawn = zipf_questions(knowledge, REQUESTS_PER_SECOND * seconds, number)
            bodies = write_bodies(drawn, knowledge.folder / "zipf.jsonl")
            for size, server in servers.items():
                found = load(
                    server,
                    bodies,
                    SAFETENSORS,
                    others,
                    concurrency=CONCURRENCY,
                    seconds=seconds,
                )
                if found.failed or not found.requests:
                    raise SystemExit(f"{found.failed} of {found.requests} requests failed")
                runs[size].append(found)
        grown = {size: server.resident_mib() - before[size] for size, server in servers.items()}
        hits = {size: _hit_rate(servers[size]) for size in SIZES_MB if size}
    figures, notes = [], []
    for size in SIZES_MB[1:]:
        pairs = list(zip(runs[size], runs[0], strict=True))
        name = f"{size} MB to none"
        figures += [
            Figure(f"CPU time of a request, {name}", [a.cpu_ms / b.cpu_ms for a, b in pairs]),
            Figure(f"throughput, {name}", [a.rate / b.rate for a, b in pairs]),
        ]
        notes.append(
            f"{size} MB: {hits[size]:.0%} of the users asked for were there; resident memory grew "
            f"by {grown[size]:.0f} MiB, by {grown[0]:.0f} MiB without."
        )
    notes.append(f"Without: {spread([run.rate for run in runs[0]], 0)} requests/s.")
    section = Section(
        module="bench.user_cache",
        title="A cache of users' records",
        method=(
            f"1 user by {ROWS} candidates, {CONCURRENCY} requests under way, safetensors rows in "
            f"f16, Redis. {users:,} users by Zipf's law with exponent {EXPONENT:g}; a record has "
            f"{shape.pairs} pairs. {rounds} rounds of {seconds} s for each size, in turns."
        ),
        figures=figures,
        notes=notes,
    )
    tell(section, save=save)


def zipf_questions(knowledge: World, requests: int, seed: int) -> list[dict[str, Any]]:
    """Draw requests whose users follow Zipf's law, the k-th of them as often as 1 / k."""
    count = knowledge.shape.users
    weights = np.arange(1, count + 1, dtype=np.float64) ** -EXPONENT
    by_rank = np.random.default_rng(1).permutation(count) * USER_ID_STEP
    ranks = np.random.default_rng([2, seed]).choice(count, requests, p=weights / weights.sum())
    drawn = knowledge.questions(ROWS, requests, seed)
    asked = zip(drawn, by_rank[ranks].tolist(), strict=True)
    return [{**body, "u": user, "dtype": "f16"} for body, user in asked]


def _hit_rate(server: Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    pattern = r'gkc_user_cache_records_total\{result="(hit|miss)"\} (\S+)'
    counts = {result: float(value) for result, value in re.findall(pattern, text)}
    return counts["hit"] / (counts["hit"] + counts["miss"])


if __name__ == "__main__":
    typer.run(main)
