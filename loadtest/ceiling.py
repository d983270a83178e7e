"""How fast Locust itself can ask, beside wrk with the same requests on the same server.

Locust is Python, and takes more for a request than the service may take for its answer: without
this, its limit would pass for the service's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.load import load, write_bodies
from bench.processes import Server
from bench.report import spread
from loadtest.generator import generate
from loadtest.plan import SAFETENSORS, Plan, Question, throughput

CONCURRENCY = 16
SECONDS = 5.0
ROUNDS = 3


@dataclass(frozen=True)
class Ceiling:
    """The most that two generators got out of one server, a value for each round."""

    server: str
    locust: Sequence[float]
    """Answers per second."""
    wrk: Sequence[float]
    """Answers per second."""

    @property
    def ratios(self) -> list[float]:
        """Locust's throughput as a fraction of wrk's, round by round."""
        return [ours / theirs for ours, theirs in zip(self.locust, self.wrk, strict=True)]

    @property
    def told(self) -> str:
        """All of it, for people."""
        return (
            f"{self.server}: Locust {spread(self.locust, 0)} answers/s, "
            f"wrk {spread(self.wrk, 0)}, Locust / wrk {spread(self.ratios)}"
        )


def ceiling(
    server: Server, plan: Plan, questions: Sequence[Question], cores: Collection[int]
) -> Ceiling:
    """Let Locust and wrk ask one server as fast as it answers, in turns.

    Parameters
    ----------
    server : Server
        Who is asked.
    plan : Plan
        Of the load test that this is about.
    questions : sequence of Question
        What is asked; those for JSON are left out, because wrk asks for one format.
    cores : collection of int
        Cores of the generator.

    Returns
    -------
    Ceiling

    Raises
    ------
    SystemExit
        If a generator is not there, or a request failed.
    """
    asked = [question for question in questions if question.accept == SAFETENSORS]
    flat_out = replace(plan, models=[CONCURRENCY], seconds=SECONDS, rate=None, checked=0.0)
    locust, wrk = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bodies = write_bodies([question.body for question in asked], folder / "bodies.jsonl")
            wrk_found = load(
                server, bodies, SAFETENSORS, cores, concurrency=CONCURRENCY, seconds=SECONDS
            )
            answers = generate(
                flat_out, asked, f"http://127.0.0.1:{server.port}", folder, cores
            ).answers
        failed = wrk_found.failed + sum(1 for answer in answers if answer.fault)
        if failed:
            raise SystemExit(f"{failed} requests to {server.name} failed")
        wrk.append(wrk_found.rate)
        locust.append(throughput(answers, 0, SECONDS))
    return Ceiling(server.name, locust, wrk)
