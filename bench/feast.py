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
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from bench.bundles import USER_ID_STEP
from bench.environments import ROOT, separate_environment
from bench.feast_views import KINDS
from bench.load import Load
from bench.processes import Server, free_port, serving
from bench.report import spread
from bench.results import Figure, Section, tell
from bench.stage import CONCURRENCY, Ask, Stage, ratios
from bench.world import VERSION, Shape, World
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors

ROWS: Final = (50, 500)
JUDGED: Final = 500
TARGET, STRETCH = 50, 150
QUESTIONS: Final = 1000
CHECKED: Final = 20
"""Requests of each number of rows whose answers are compared before anything is timed."""
FEAST_PATH: Final = "/get-online-features"
USERS_AT_ONCE: Final = 200
ITEMS_AT_ONCE: Final = 10_000
Runs = Mapping[tuple[str, int, int], Sequence[Load]]
"""By side, rows and requests under way."""

METHOD: Final = """\
Feast holds the vectors of {users:,} of the version's {all_users:,} users, with their {pairs} \
pairs each, and of {items:,} of its {all_items:,} items. Both sides are asked for these only, \
drawn evenly, by the same wrk. Our answer is whole rows, f16 safetensors; Feast's is K_u, K_i and \
K_uc of every row as JSON. It has a view for each kind of key and a vector as one feature: the \
bytes of its float16, base64 in the answer, which is its fastest form (`Array(Float32)`, the \
ordinary type for a vector, took 2.7 times as long: `git show 8b4fcbb:docs/performance.md`). Feast \
reads each distinct key once, all in one pipeline. `feast serve` runs one worker without access \
log, without restarts and without refreshes of the registry. Before the timing, {checked} answers \
of each size were compared to the bit."""


def main(
    *,
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
    shape = Shape(users=users, items=items)
    part = dataclasses.replace(shape, users=feast_users, items=feast_items)
    with Stage() as stage:
        knowledge = dataclasses.replace(stage.world(shape), shape=part)
        ours = stage.serve(knowledge.url)
        repository = write_repository(knowledge)
        write_vectors(knowledge, ours, repository)
        versions = fill(commands, repository)
        port = free_port()
        command = feast_serve(commands, repository, port)
        with serving("feast serve", command, port, stage.own, "/health") as feast:
            asked = {}
            for rows in ROWS:
                compare_answers(knowledge, ours, feast, rows)
                drawn = knowledge.questions(rows, QUESTIONS, seed=2)
                rows_of_ours = [{**body, "dtype": "f16"} for body in drawn]
                to_feast = [feast_question(knowledge, body) for body in drawn]
                for under_way in (1, CONCURRENCY):
                    asked["ours", rows, under_way] = Ask(
                        ours, stage.write(f"ours-{rows}", rows_of_ours), concurrency=under_way
                    )
                    bodies = stage.write(f"feast-{rows}", to_feast)
                    asked["Feast", rows, under_way] = Ask(
                        feast, bodies, "application/json", under_way, FEAST_PATH
                    )
            runs = stage.in_turns(asked, rounds, seconds)
    tell(section(shape, part, runs, versions), save=save)


def write_repository(part: World) -> Path:
    """Write what configures Feast for a world's Redis server; return the repository's folder."""
    repository = part.folder / "feast"
    repository.mkdir()
    configuration = {
        "project": "gkc",
        "provider": "local",
        # Kept for ever once read: nothing changes in it.
        "registry": {"path": str(repository / "registry.db"), "cache_ttl_seconds": 0},
        "online_store": {
            "type": "redis",
            "connection_string": f"127.0.0.1:{part.redis.port}",
            "skip_dedup": True,
        },
        "offline_store": {"type": "file"},
        "auth": {"type": "no_auth"},
        "entity_key_serialization_version": 3,
    }
    text = json.dumps(configuration)  # JSON is YAML as well
    (repository / "feature_store.yaml").write_text(text, encoding="ascii")
    return repository


def write_vectors(part: World, service: Server, folder: Path) -> None:
    """Ask the service for all vectors of a part, and write them for Feast: ``KIND.npz``.

    A file holds float16 ``vectors`` (n, D), and int64 columns (n,) of the ids.
    """
    shape = part.shape
    items, users = np.arange(shape.items), np.arange(shape.users) * USER_ID_STEP
    of, at = np.repeat(users, shape.pairs), np.tile(np.arange(shape.pairs), shape.users)
    with ServedKnowledge(f"http://127.0.0.1:{service.port}", VERSION) as knowledge:

        def factored(part_name: str, **ids: object) -> NDArray[np.generic]:
            asked = {**ids, "v": VERSION, "parts": [part_name], "layout": "factored"}
            return decode_safetensors(knowledge.ask(asked, SAFETENSORS))[part_name]

        of_items = [factored("item", u=0, i=ids.tolist()) for ids in chunks(items, ITEMS_AT_ONCE)]
        of_users = [factored("user", u=ids.tolist(), i=0) for ids in chunks(users, USERS_AT_ONCE)]
        of_pairs = [
            factored("user_category", u=ids.tolist(), i=0, c=categories.tolist())
            for ids, categories in zip(
                *(chunks(column, USERS_AT_ONCE * shape.pairs) for column in (of, at)), strict=True
            )
        ]
    np.savez(folder / "item.npz", item_id=items, vectors=np.concatenate(of_items))
    np.savez(folder / "user.npz", user_id=users, vectors=np.concatenate(of_users))
    vectors = np.concatenate(of_pairs)
    np.savez(folder / "user_category.npz", user_id=of, category_id=at, vectors=vectors)


def chunks(column: NDArray[np.int64], size: int) -> Iterable[NDArray[np.int64]]:
    """Cut a column into pieces of so many."""
    return (column[start : start + size] for start in range(0, len(column), size))


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


def feast_serve(commands: Path, repository: Path, port: int) -> list[str]:
    """Return the command that serves Feast as its users would in production.

    What it prints goes to ``serve.log`` in the repository, and what gunicorn keeps in the home
    directory does too.
    """
    serve = [str(commands / "feast"), "--chdir", str(repository), "serve", "--port", str(port)]
    serve += ["--workers", "1", "--no-access-log"]
    serve += ["--max-requests", "0", "--registry_ttl_sec", "0"]  # no restarts and no refreshes
    quiet = ["sh", "-c", 'exec "$@" 2> "$0"', str(repository / "serve.log")]
    return ["env", f"HOME={repository}", *quiet, *serve]


def feast_question(part: World, body: Mapping[str, Any]) -> dict[str, Any]:
    """Ask Feast for what a columnar request asks for; it looks no category up."""
    items = body["i"]
    return {
        "features": [f"{kind}:{feature}" for kind, (_, feature) in KINDS.items()],
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
    with ServedKnowledge(f"http://127.0.0.1:{service.port}", VERSION) as knowledge:
        for body in part.questions(rows, CHECKED, seed=1):
            asked = {**body, "dtype": "f16"}
            expected = decode_safetensors(knowledge.ask(asked, SAFETENSORS))["knowledge"]
            answer = ask_feast(feast, feast_question(part, body))
            if not np.array_equal(rows_of(answer, part.shape.dim).astype(np.float16), expected):
                raise SystemExit("Feast answers other numbers than the service")


def ask_feast(server: Server, question: Mapping[str, Any]) -> dict[str, Any]:
    """Ask Feast's server once.

    Raises
    ------
    SystemExit
        If it refuses.
    """
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
    k_u, k_i, k_uc = (
        np.stack(
            [
                np.frombuffer(base64.b64decode(value or nothing), dtype="<f2").astype(np.float32)
                for value in columns[feature]
            ]
        )
        for _, feature in KINDS.values()
    )
    return np.concatenate([k_u, k_i, k_u * k_i, k_uc], axis=1)


def section(whole: Shape, part: Shape, runs: Runs, versions: Mapping[str, str]) -> Section:
    """Put what was found in the form that is told: ratios, and absolute values in the notes."""
    figures, notes = [], []
    for rows in reversed(ROWS):
        ours, feast = (runs[side, rows, 1] for side in ("ours", "Feast"))
        several, of_feast = (runs[side, rows, CONCURRENCY] for side in ("ours", "Feast"))
        judged: dict[str, Any] = {"target": TARGET, "stretch": STRETCH} if rows == JUDGED else {}
        p50 = ratios([run.p50_ms for run in feast], [run.p50_ms for run in ours])
        rate = ratios([run.rate for run in several], [run.rate for run in of_feast])
        cpu = ratios([run.cpu_ms for run in of_feast], [run.cpu_ms for run in several])
        under_way = f"{CONCURRENCY} under way"
        figures += [
            Figure(f"p50, Feast to ours, B = {rows}", p50, digits=1, **judged),
            Figure(f"requests/s, ours to Feast, {under_way}, B = {rows}", rate, digits=1, **judged),
            Figure(f"CPU time of the server, Feast to ours, B = {rows}", cpu, digits=1),
        ]
        told = "; ".join(
            f"{side} {spread([run.p50_ms for run in alone])} ms, "
            f"{spread([run.rate for run in many], 0)} requests/s"
            for side, alone, many in (("ours", ours, several), ("Feast", feast, of_feast))
        )
        notes.append(f"B = {rows}, p50 alone, and requests/s with {under_way}: {told}.")
    environment = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Section(
        module="bench.feast",
        title="Beside Feast",
        method=METHOD.format(
            users=part.users,
            all_users=whole.users,
            items=part.items,
            all_items=whole.items,
            pairs=part.pairs,
            checked=CHECKED,
        ),
        figures=figures,
        notes=[*notes, f"Feast's environment: {environment}."],
    )


if __name__ == "__main__":
    typer.run(main)
