"""Locust in an environment and a process of its own: a plan in, what it found out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from bench.checkouts import ROOT
from bench.environments import separate_environment
from loadtest.plan import Outcome, Plan, Question, read_outcome, write_plan

STOP_SECONDS = 15
"""Requests under way at the end have so long; longer than the models wait for an answer."""
_LOG = "locust.log"
_LINES_SHOWN = 20


def generate(
    plan: Plan, questions: Sequence[Question], host: str, folder: Path, cores: Collection[int]
) -> Outcome:
    """Run Locust.

    Parameters
    ----------
    plan : Plan
        How much it asks.
    questions : sequence of Question
        What it asks, in turn and from the beginning again.
    host : str
        URL of whom.
    folder : Path
        Everything that goes in and comes out is written there: ``plan.json``,
        ``outcome.json``, ``report.html``, ``report_*.csv`` and ``locust.log``.
    cores : collection of int
        Cores that it may use; it uses one at a time.

    Returns
    -------
    Outcome

    Raises
    ------
    SystemExit
        If Locust itself failed.
    """
    command = [
        str(separate_environment("loadtest") / "locust"),
        *("--locustfile", str(ROOT / "loadtest" / "locustfile.py")),
        *("--headless", "--only-summary", "--host", host, "--stop-timeout", str(STOP_SECONDS)),
        *("--users", str(plan.models), "--spawn-rate", str(plan.models)),
        *("--run-time", f"{plan.seconds:g}s"),
        *("--exit-code-on-error", "0"),  # failed requests are counted by whoever reads the answers
        *("--html", str(folder / "report.html"), "--csv", str(folder / "report")),
    ]
    write_plan(plan, questions, folder)
    environment = os.environ | {"LOADTEST_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / _LOG).open("w", encoding="utf-8") as log:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            check=False,
        )
    if done.returncode:
        lines = (folder / _LOG).read_text(encoding="utf-8").splitlines()[-_LINES_SHOWN:]
        raise SystemExit("\n".join([f"Locust failed with status {done.returncode}:", *lines]))
    return read_outcome(folder)
