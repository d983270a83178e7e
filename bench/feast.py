"""The service beside Feast: the same vectors in the same Redis, 1 user by B items.

``POST /knowledge`` of the service and ``POST /get-online-features`` of Feast's own server have one
worker on one core each, and are asked by the same wrk in turns, once at a time (p50) and four at a
time (throughput).

    python -m bench.feast [--save]

Feast is installed from ``requirements/feast.txt`` into ``.venv-feast`` at the first run.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from bench.bundles import USER_ID_STEP
from bench.checkouts import ROOT
from bench.environments import separate_environment
from bench.exchange import JSON, answer_of, post
from bench.load import CONCURRENCY, Ask, Load
from bench.options import Rounds, Save, Seconds
from bench.processes import Server, free_port, serving
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import Stage, ratios
from bench.tables import KINDS, read_vectors
from bench.world import Shape, World, export_tables

SHAPE: Final = Shape(users=20_000)
PART: Final = Shape(users=10_000, items=100_000)
"""What Feast holds as well, and both are asked for."""
ROWS: Final = (50, 500)
JUDGED: Final = 500
TARGET, STRETCH = 50, 150
QUESTIONS: Final = 1000
CHECKED: Final = 20
"""Requests of each number of rows whose answers are compared before anything is timed."""
FEAST_PATH: Final = "/get-online-features"
SIDES: Final = ("ours", "Feast")
Runs = Mapping[tuple[str, int, int], Sequence[Load]]
"""By side, rows and requests under way."""

METHOD: Final = f"""\
Feast holds the vectors of {PART.users:,} of the version's {SHAPE.users:,} users, with their \
{PART.pairs} pairs each, and of {PART.items:,} of its {SHAPE.items:,} items. Both sides are asked \
for these only, drawn evenly, by the same wrk. Our answer is whole rows, f16 safetensors; Feast's \
is K_u, K_i and K_uc of every row as JSON. It has a view for each kind of key and a vector as one \
feature: the bytes of its float16, base64 in the answer, which is its fastest form \
(`Array(Float32)`, the ordinary type for a vector, took 2.7 times as long: `git show \
8b4fcbb:docs/performance.md`). Feast reads each distinct key once, all in one pipeline. `feast \
serve` runs one worker without access log, without restarts and without refreshes of the registry. \
Before the timing, {CHECKED} answers of each size were compared to the bit."""


def main(*, rounds: Rounds = 5, seconds: Seconds = 2, save: Save = False) -> None:
    """Fill both sides, compare their answers, ask them in turns and tell the ratios."""
    commands = separate_environment("feast")
    with Stage() as stage:
        knowledge = dataclasses.replace(stage.world(SHAPE), shape=PART)
        ours = stage.serve(knowledge.url)
        to_redis = {
            "type": "redis",
            "connection_string": f"127.0.0.1:{knowledge.redis.port}",
            "skip_dedup": True,
        }
        repository = write_repository(stage.folder / "feast", to_redis)
        tables = export_tables(knowledge.url, stage.folder / "tables")
        write_vectors(tables, PART, repository)
        versions = fill(commands, repository)
        with feast_serving(commands, repository, stage.service_cores) as feast:
            asked = {}
            for rows in ROWS:
                compare_answers(knowledge, ours, feast, rows)
                drawn = knowledge.questions(rows, QUESTIONS, seed=2, dtype="f16")
                to_us = stage.write(f"ours-{rows}", drawn)
                to_feast = [feast_question(knowledge, body) for body in drawn]
                bodies = stage.write(f"feast-{rows}", to_feast)
                for n in (1, CONCURRENCY):
                    asked["ours", rows, n] = Ask(ours, to_us, concurrency=n)
                    asked["Feast", rows, n] = Ask(feast, bodies, JSON, n, FEAST_PATH)
            runs = stage.in_turns(asked, rounds, seconds)
    tell(section(runs, versions), save=save)


def write_repository(repository: Path, online_store: Mapping[str, Any]) -> Path:
    """Write what configures Feast into a new folder, which is returned."""
    repository.mkdir()
    configuration = {
        "project": "gkc",
        "provider": "local",
        # Kept for ever once read: nothing changes in it.
        "registry": {"path": str(repository / "registry.db"), "cache_ttl_seconds": 0},
        "online_store": online_store,
        "offline_store": {"type": "file"},
        "auth": {"type": "no_auth"},
        "entity_key_serialization_version": 3,
    }
    text = json.dumps(configuration)  # JSON is YAML as well
    (repository / "feature_store.yaml").write_text(text, encoding="ascii")
    return repository


def write_vectors(tables: Path, part: Shape, folder: Path) -> None:
    """Write the vectors of a part for Feast: ``KIND.npz``.

    A file holds float16 ``vectors`` (n, D), and int64 columns (n,) of the ids.
    """
    ends = {"user_id": part.users * USER_ID_STEP, "item_id": part.items}
    for kind, (_, (key, *_), _) in KINDS.items():
        columns, vectors = read_vectors(tables, kind)
        held = columns[key] < ends[key]
        columns = {name: column[held] for name, column in columns.items()}
        np.savez(folder / f"{kind}.npz", allow_pickle=False, vectors=vectors[held], **columns)


def fill(commands: Path, repository: Path) -> dict[str, str]:
    """Have Feast take the vectors; return the versions of its packages.

    Raises
    ------
    SystemExit
        If it fails.
    """
    command = [str(commands / "python"), "-m", "bench.feast_peer", str(repository)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Feast could not be filled:\n{done.stderr[-2000:]}")
    versions: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return versions


def feast_serving(
    commands: Path, repository: Path, cores: Collection[int]
) -> AbstractContextManager[Server]:
    """Serve Feast as its users would in production until the block ends.

    What it prints goes to ``serve.log`` in the repository, and what gunicorn keeps in the home
    directory does too.
    """
    port = free_port()
    command = [str(commands / "feast"), "--chdir", str(repository), "serve", "--port", str(port)]
    command += ["--workers", "1", "--no-access-log"]
    command += ["--max-requests", "0", "--registry_ttl_sec", "0"]  # no restarts and no refreshes
    home, log = {"HOME": str(repository)}, repository / "serve.log"
    return serving("feast serve", command, port, cores, "/health", environment=home, log=log)


def feast_question(part: World, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask Feast for what a columnar request asks for; it looks no category up."""
    items = body["i"]
    return {
        "features": [f"{kind}:{feature}" for kind, (_, _, feature) in KINDS.items()],
        "entities": {
            "user_id": [body["u"]] * len(items),
            "item_id": items,
            "category_id": [part.category_of(item) for item in items],
        },
    }


def compare_answers(part: World, service: Server, feast: Server, rows: int) -> None:
    """Ask both sides the same and compare the rows to the bit.

    Raises
    ------
    SystemExit
        If they differ.
    """
    for body in part.questions(rows, CHECKED, seed=1, dtype="f16"):
        expected = answer_of(service, body)["knowledge"]
        answer = json.loads(post(feast, feast_question(part, body), path=FEAST_PATH))
        if not np.array_equal(rows_of(answer, part.shape.dim).astype(np.float16), expected):
            raise SystemExit("Feast answers other numbers than the service")


def rows_of(answer: Mapping[str, Any], dim: int) -> NDArray[np.float32]:
    """Make knowledge rows from Feast's answer.

    Parameters
    ----------
    answer : mapping
        Of ``POST /get-online-features``: a vector is base64 of float16, or None where Feast has
        none.
    dim : int
        Width D of each vector.

    Returns
    -------
    ndarray, shape (B, 4 * D), float32
        ``[k_u, k_i, k_u * k_i, k_uc]``, zeros for what Feast has not.
    """
    names, results = answer["metadata"]["feature_names"], answer["results"]
    columns = {name: result["values"] for name, result in zip(names, results, strict=True)}
    nothing = base64.b64encode(bytes(2 * dim))

    def vectors(feature: str) -> NDArray[np.float32]:
        content = b"".join(base64.b64decode(value or nothing) for value in columns[feature])
        return np.frombuffer(content, dtype="<f2").reshape(-1, dim).astype(np.float32)

    k_u, k_i, k_uc = (vectors(feature) for _, _, feature in KINDS.values())
    return np.concatenate([k_u, k_i, k_u * k_i, k_uc], axis=1)


def section(runs: Runs, versions: Mapping[str, str]) -> Section:
    """Put what was found in the form that is told: ratios, and absolute values in the notes."""
    figures, notes = [], []
    under_way = f"{CONCURRENCY} under way"
    for rows in reversed(ROWS):
        p50, rate, cpu = {}, {}, {}
        for side in SIDES:
            p50[side] = [run.p50_ms for run in runs[side, rows, 1]]
            rate[side] = [run.rate for run in runs[side, rows, CONCURRENCY]]
            cpu[side] = [run.cpu_ms for run in runs[side, rows, CONCURRENCY]]
        judged: dict[str, Any] = {"target": TARGET, "stretch": STRETCH} if rows == JUDGED else {}
        for name, ratio, bounds in (
            ("p50, Feast to ours", ratios(p50["Feast"], p50["ours"]), judged),
            (
                f"requests/s, ours to Feast, {under_way}",
                ratios(rate["ours"], rate["Feast"]),
                judged,
            ),
            ("CPU time of the server, Feast to ours", ratios(cpu["Feast"], cpu["ours"]), {}),
        ):
            figures.append(Figure(f"{name}, B = {rows}", ratio, digits=1, **bounds))
        told = "; ".join(
            f"{side} {spread(p50[side])} ms, {spread(rate[side], 0)} requests/s" for side in SIDES
        )
        notes.append(f"B = {rows}, p50 alone, and requests/s with {under_way}: {told}.")
    environment = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Section(
        module="bench.feast",
        title="Beside Feast",
        method=METHOD,
        figures=figures,
        notes=[*notes, f"Feast's environment: {environment}."],
    )


if __name__ == "__main__":
    typer.run(main)
