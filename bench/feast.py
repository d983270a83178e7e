"""The service beside Feast: the same vectors in the same Redis, 1 user by B items.

Three ways to the vectors take turns in every round: ``POST /knowledge`` of the service (columnar
JSON in, safetensors rows out), ``POST /get-online-features`` of Feast's own server, and
``get_online_features`` of Feast's SDK in a process of its own. Both servers have one worker on one
core and are asked by the same wrk, once at a time (p50) and four at a time (throughput).

    python -m bench.feast [--rounds 5] [--seconds 2] [--save]

Feast is installed from ``requirements/feast.txt`` into ``.venv-feast`` at the first run.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.environments import separate_environment
from bench.feast_found import (
    CHECKED,
    FACTORED,
    FASTEST,
    ONE,
    OURS,
    ROWS,
    SEVERAL,
    SHOWN,
    Found,
    section,
    vectors_of,
)
from bench.feast_store import Peer, feast_serve, peer_running, write_repository, write_vectors
from bench.feast_views import FORMS, KINDS, feast_question
from bench.load import Load, load, write_bodies
from bench.processes import Server, free_port, our_service, separate_cores, serving
from bench.results import tell
from bench.world import VERSION, Shape, World, export, world
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors

Vectors = NDArray[np.float32]

QUESTIONS = 1000
"""Different requests of each number of rows; every run of wrk begins with the first."""
SDK_CALLS = 60
LOADED_VERSION = "loaded"
IN_HALVES = {"dtype": "f16"}
"""What Feast hands out, and what is stored."""
FEAST_PATH = "/get-online-features"


@dataclass(frozen=True)
class Side:
    """One of those asked over HTTP."""

    name: str
    """Our layout, or the form in which Feast is asked for the vectors."""
    server: Server
    path: str
    accept: str
    bodies: dict[int, Path]
    """By the number of rows."""


def main(
    users: Annotated[int, typer.Option(help="Of the version.")] = 20_000,
    items: Annotated[int, typer.Option(help="Of the version.")] = Shape.items,
    feast_users: Annotated[int, typer.Option(help="Also in Feast; these are asked for.")] = 10_000,
    feast_items: Annotated[int, typer.Option(help="Also in Feast; these are asked for.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Repeats of everything.")] = 5,
    seconds: Annotated[int, typer.Option(help="Of each run of wrk.")] = 2,
    save: Annotated[bool, typer.Option(help="Keep the figures for docs/performance.md.")] = False,
) -> None:
    """Fill both sides, compare their answers, ask them in turns and tell the ratios."""
    commands = separate_environment("feast")
    on_service, on_others = separate_cores()
    shape = Shape(users=users, items=items)
    found = Found()
    with (
        tempfile.TemporaryDirectory() as scratch,
        world(Path(scratch), shape, on_others) as whole,
    ):
        asked = dataclasses.replace(shape, users=feast_users, items=feast_items)
        part = dataclasses.replace(whole, shape=asked)
        repository = write_repository(part)
        port, feast_port = free_port(), free_port()
        ours = ("gkc serve", our_service(whole.url, port), port, on_service, "/readyz")
        serve = feast_serve(commands, repository, feast_port)
        with serving(*ours) as service:
            write_vectors(part, service, repository)
        with peer_running(commands, repository, on_service) as peer:
            measure_loading(part, peer, rounds, found)
            with (
                serving(*ours) as service,
                serving("feast serve", serve, feast_port, on_service, "/health") as server,
            ):
                for form in FORMS:
                    compare_answers(part, service, server, form)
                sides = write_requests(part, service, server)
                measure_asking(sides, peer, on_others, rounds, seconds, found)
            tell(section(shape, asked, found, peer.versions), save=save)


def measure_loading(part: World, peer: Peer, rounds: int, found: Found) -> None:
    """Fill Feast, a part each round, and export the same vectors in turn.

    Parameters
    ----------
    part : World
        What is loaded.
    peer : Peer
        Fills Feast.
    rounds : int
        Parts.
    found : Found
        Told the rates.
    """
    bundle, count = part.folder / LOADED_VERSION, vectors_of(part.shape)
    export(bundle, part.shape, part.url, LOADED_VERSION)  # writes the bundle
    for number in range(rounds):
        began = time.perf_counter()
        export(bundle, part.shape, part.url, LOADED_VERSION)
        found.ours_loaded.append(count / (time.perf_counter() - began))
        found.feast_loaded.append(peer.write(FASTEST, number, rounds))
    for form in FORMS:
        if form != FASTEST:
            peer.write(form, 0, 1)
    command = [sys.executable, "-m", "gkc", "versions", "delete", LOADED_VERSION, "--yes"]
    command += ["--store", part.url, "--grace-seconds", "0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare_answers(part: World, service: Server, server: Server, form: str) -> None:
    """Ask both sides the same and compare the rows to the bit.

    Parameters
    ----------
    part : World
        What is asked for.
    service, server : Server
        Ours, and Feast's.
    form : str
        In which Feast is asked.

    Raises
    ------
    SystemExit
        If they differ.
    """
    with ServedKnowledge(f"http://127.0.0.1:{service.port}", VERSION) as knowledge:
        for rows in ROWS:
            questions = part.questions(rows, CHECKED, seed=1)
            for ours, feast in zip(questions, _to_feast(part, questions, form), strict=True):
                asked = {**ours, **IN_HALVES}
                expected = decode_safetensors(knowledge.ask(asked, SAFETENSORS))["knowledge"]
                rows_there = rows_of(_ask(server, feast), part.shape.dim).astype(np.float16)
                if not np.array_equal(rows_there, expected):
                    raise SystemExit(f"Feast ({form}) answers other numbers than the service")


def rows_of(answer: dict[str, Any], dim: int) -> Vectors:
    """Make knowledge rows from Feast's answer.

    Parameters
    ----------
    answer : dict
        Of ``POST /get-online-features``: a vector is base64 of float16, a list of numbers, or None
        where Feast has none.
    dim : int
        Width D of each vector.

    Returns
    -------
    ndarray, shape (B, 4 * D), float32
        ``[k_u, k_i, k_u * k_i, k_uc]``, zeros for what Feast has not.
    """
    names, results = answer["metadata"]["feature_names"], answer["results"]
    columns = {name: result["values"] for name, result in zip(names, results, strict=True)}
    k_u, k_i, k_uc = (
        np.stack([_vector(value, dim) for value in columns[kind.feature]]) for kind in KINDS
    )
    return np.concatenate([k_u, k_i, k_u * k_i, k_uc], axis=1)


def write_requests(part: World, service: Server, server: Server) -> list[Side]:
    """Write the same requests for every side.

    Parameters
    ----------
    part : World
        What is asked for.
    service, server : Server
        Ours, and Feast's.

    Returns
    -------
    list of Side
        Ours in each layout, then Feast in each form.
    """
    bodies: dict[str, dict[int, Path]] = defaultdict(dict)
    for rows in ROWS:
        questions = part.questions(rows, QUESTIONS, seed=2)
        asked = {
            OURS: [{**body, **IN_HALVES} for body in questions],
            FACTORED: [{**body, "layout": "factored"} for body in questions],
        }
        asked |= {form: _to_feast(part, questions, form) for form in FORMS}
        for side, requests in asked.items():
            bodies[side][rows] = write_bodies(requests, part.folder / f"{side}-{rows}.jsonl")
    ours, feast = (service, "/knowledge", SAFETENSORS), (server, FEAST_PATH, "application/json")
    return [
        *(Side(layout, *ours, bodies[layout]) for layout in (OURS, FACTORED)),
        *(Side(form, *feast, bodies[form]) for form in FORMS),
    ]


def measure_asking(
    sides: Sequence[Side],
    peer: Peer,
    cores: Collection[int],
    rounds: int,
    seconds: int,
    found: Found,
) -> None:
    """Load the sides in turn, and time the SDK.

    Parameters
    ----------
    sides : sequence of Side
        Those asked over HTTP.
    peer : Peer
        Has the SDK.
    cores : collection of int
        Cores of wrk.
    rounds, seconds : int
        Repeats, and the length of each run of wrk.
    found : Found
        Told what each repeat gave.

    Raises
    ------
    SystemExit
        If a request failed.
    """
    (questions,) = (side.bodies for side in sides if side.name == FASTEST)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        # Who goes first changes, so that what else the machine does favours nobody.
        in_turn = sides[::-1] if number % 2 else sides
        for rows in ROWS:
            for concurrency in (ONE, SEVERAL):
                for side in in_turn:
                    done = _load(side, rows, cores, concurrency, seconds)
                    found.loads[side.name, rows, concurrency].append(done)
            times = peer.time_sdk(questions[rows], number * SDK_CALLS, SDK_CALLS)
            found.sdk_ms[rows].append(statistics.median(times))


def _load(side: Side, rows: int, cores: Collection[int], concurrency: int, seconds: int) -> Load:
    done = load(
        side.server,
        side.bodies[rows],
        side.accept,
        cores,
        concurrency=concurrency,
        seconds=seconds,
        path=side.path,
    )
    if done.failed or not done.requests:
        raise SystemExit(f"{SHOWN[side.name]}: {done.failed} of {done.requests} requests failed")
    return done


def _to_feast(part: World, questions: Sequence[dict[str, Any]], form: str) -> list[dict[str, Any]]:
    return [
        feast_question(asked["u"], asked["i"], list(map(part.category_of, asked["i"])), form)
        for asked in questions
    ]


def _ask(server: Server, question: dict[str, Any]) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", server.port)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", FEAST_PATH, json.dumps(question), headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"Feast answered {answer.status}: {content[:500]!r}")
    told: dict[str, Any] = json.loads(content)
    return told


def _vector(value: str | list[float] | None, dim: int) -> Vectors:
    if value is None:
        return np.zeros(dim, dtype=np.float32)
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), dtype="<f2").astype(np.float32)
    return np.array(value, dtype=np.float32)


if __name__ == "__main__":
    typer.run(main)
