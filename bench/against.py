"""What a change does: the service of two checkouts, on one store, asked in turns.

    git worktree add --detach ../before HEAD~1
    python -m bench.against ../before

This checkout is set against the other, both under this interpreter and its packages. A ratio
compares two runs of the same round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.load import Load, load, write_bodies
from bench.processes import free_port, our_service, separate_cores, serving
from bench.report import print_circumstances, spread
from bench.world import Shape, world
from keep.served import SAFETENSORS

HERE: Final = Path(__file__).resolve().parents[1]
BODIES: Final = 2_000
CASES: Final[Mapping[str, tuple[int, str, int]]] = {
    "1 row, alone": (1, "rows", 1),
    "500 rows, alone": (500, "rows", 1),
    "1 row, 4 at a time": (1, "rows", 4),
    "50 rows, 4 at a time": (50, "rows", 4),
    "500 rows, 4 at a time": (500, "rows", 4),
    "500 rows factored, 4 at a time": (500, "factored", 4),
}
"""Rows, layout and requests under way."""


def main(
    other: Annotated[Path, typer.Argument(help="Root of the other checkout.", exists=True)],
    *,
    rounds: Annotated[int, typer.Option(help="Runs of each kind of request.")] = 7,
    seconds: Annotated[int, typer.Option(help="Of one run.")] = 2,
    users: Annotated[int, typer.Option(help="Users of the version.")] = Shape.users,
    items: Annotated[int, typer.Option(help="Items of the version.")] = Shape.items,
) -> None:
    """Print how CPU time and p50 of a request here compare with those there."""
    print_circumstances("bench.against")
    own, others = separate_cores()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        knowledge = stack.enter_context(world(folder, Shape(users=users, items=items), others))
        servers = []
        for root in (HERE, other.resolve()):
            port = free_port()
            program, *how = our_service(knowledge.url, port)
            # Without -P the current folder's code would come before that of PYTHONPATH.
            command = [program, "-P", *how]
            environment = {"GKC_MIRROR_DIR": str(folder / "mirrors"), "PYTHONPATH": str(root)}
            check_code(root, environment)
            server = serving(str(root), command, port, own, "/readyz", environment)
            servers.append(stack.enter_context(server))
        for name, (rows, layout, concurrency) in CASES.items():
            asked = [
                body | {"dtype": "f16", "layout": layout}
                for body in knowledge.questions(rows, BODIES, seed=1)
            ]
            bodies = write_bodies(asked, folder / f"{rows}-{layout}.jsonl")
            found = [
                tuple(
                    load(
                        server,
                        bodies,
                        SAFETENSORS,
                        others,
                        concurrency=concurrency,
                        seconds=seconds,
                    )
                    for server in servers
                )
                for _ in range(rounds)
            ]
            print(compared(name, found))


def check_code(root: Path, environment: Mapping[str, str]) -> None:
    """Check that a service started like this runs a checkout's code, not some other.

    Raises
    ------
    SystemExit
        If it does not.
    """
    tell = [sys.executable, "-P", "-c", "import gkc; print(gkc.__file__)"]
    told = subprocess.run(
        tell, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if told.stdout.strip() != str(root / "gkc" / "__init__.py"):
        raise SystemExit(f"{root} is no checkout of gkc: {told.stdout}{told.stderr}".strip())


def compared(name: str, found: Sequence[tuple[Load, ...]]) -> str:
    """Return what was found of one kind of request, for people.

    Parameters
    ----------
    name : str
        The kind.
    found : sequence of (Load, Load)
        Here and there, in each round.

    Raises
    ------
    SystemExit
        If requests failed.
    """
    if any(run.failed or not run.requests for pair in found for run in pair):
        raise SystemExit(f"{name}: requests failed")
    cpu = [here.cpu_ms / there.cpu_ms for here, there in found]
    p50 = [here.p50_ms / there.p50_ms for here, there in found]
    return f"{name}: CPU time {spread(cpu)}, p50 {spread(p50)} times the other's"


if __name__ == "__main__":
    typer.run(main)
