"""Feast as ``bench.feast`` runs it: a repository, its server, and a process with its SDK."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.bundles import USER_ID_STEP
from bench.environments import ROOT
from bench.processes import Server
from bench.world import VERSION, World
from keep.served import SAFETENSORS, ServedKnowledge, decode_safetensors

USERS_AT_ONCE = 200
ITEMS_AT_ONCE = 10_000


class Peer:
    """The process in Feast's environment.

    Parameters
    ----------
    process : subprocess.Popen
        Runs ``bench.feast_peer``.
    log : Path
        What it prints for people.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log
        self.versions: dict[str, str] = dict(self._answer())
        """Of the packages of its environment."""

    def write(self, form: str, part: int, parts: int) -> float:
        """Have it write one of equal parts of all vectors to the online store.

        Parameters
        ----------
        form : str
            Of ``FORMS``.
        part, parts : int
            Which, from 0 on, and of how many.

        Returns
        -------
        float
            Vectors per second of ``write_to_online_store``.

        Raises
        ------
        SystemExit
            If the process ended.
        """
        rows, seconds = self._ask("write", form, part, parts)
        return float(rows / seconds)

    def time_sdk(self, questions: Path, first: int, count: int) -> list[float]:
        """Have it time ``get_online_features`` of the SDK.

        Parameters
        ----------
        questions : Path
            ``feast_question``, a line of JSON each.
        first, count : int
            Which of its lines, from ``first`` on, in turn.

        Returns
        -------
        list of float
            Milliseconds of each call.

        Raises
        ------
        SystemExit
            If the process ended.
        """
        return self._ask("time_sdk", str(questions), first, count)

    def _ask(self, method: str, *arguments: str | int) -> list[Any]:
        assert self._process.stdin is not None
        print(json.dumps([method, *arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"Feast's process ended:\n{self._log.read_text()[-2000:]}")
        answer: list[Any] = json.loads(line)
        return answer


def write_repository(part: World) -> Path:
    """Write what configures Feast.

    Parameters
    ----------
    part : World
        Whose Redis server it uses.

    Returns
    -------
    Path
        The repository's folder.
    """
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

    Parameters
    ----------
    part : World
        Its shape says which.
    service : Server
        Serves the version.
    folder : Path
        Where to. A file holds float16 ``vectors`` (n, D), and int64 columns (n,) of the ids.
    """
    shape = part.shape
    with ServedKnowledge(f"http://127.0.0.1:{service.port}", VERSION) as knowledge:

        def factored(part_name: str, **ids: object) -> NDArray[np.generic]:
            asked = {**ids, "v": VERSION, "parts": [part_name], "layout": "factored"}
            return decode_safetensors(knowledge.ask(asked, SAFETENSORS))[part_name]

        items = np.arange(shape.items)
        vectors = [factored("item", u=0, i=ids.tolist()) for ids in _chunks(items, ITEMS_AT_ONCE)]
        np.savez(folder / "item.npz", item_id=items, vectors=np.concatenate(vectors))

        users = np.arange(shape.users) * USER_ID_STEP
        vectors = [factored("user", u=ids.tolist(), i=0) for ids in _chunks(users, USERS_AT_ONCE)]
        np.savez(folder / "user.npz", user_id=users, vectors=np.concatenate(vectors))

        of, at = np.repeat(users, shape.pairs), np.tile(np.arange(shape.pairs), shape.users)
        chunks = (_chunks(column, USERS_AT_ONCE * shape.pairs) for column in (of, at))
        vectors = [
            factored("user_category", u=ids.tolist(), i=0, c=categories.tolist())
            for ids, categories in zip(*chunks, strict=True)
        ]
        pairs = np.concatenate(vectors)
        np.savez(folder / "user_category.npz", user_id=of, category_id=at, vectors=pairs)


@contextmanager
def peer_running(commands: Path, repository: Path, cores: Collection[int]) -> Iterator[Peer]:
    """Run ``bench.feast_peer`` until the block ends.

    Parameters
    ----------
    commands : Path
        Of Feast's environment.
    repository : Path
        Holds the configuration and the vectors.
    cores : collection of int
        Cores that it may use.

    Yields
    ------
    Peer
        Has registered its views.

    Raises
    ------
    SystemExit
        If it fails at that.
    """
    log = repository / "peer.log"
    with (
        log.open("w") as printed,
        subprocess.Popen(
            [str(commands / "python"), "-m", "bench.feast_peer", str(repository)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        ) as process,
    ):
        yield Peer(process, log)  # leaving ends its input, and so the process


def feast_serve(commands: Path, repository: Path, port: int) -> list[str]:
    """Return the command that serves Feast as its users would in production.

    Parameters
    ----------
    commands : Path
        Of Feast's environment.
    repository : Path
        Its configuration; what it prints goes to ``serve.log`` there, and what gunicorn keeps in
        the home directory does too.
    port : int
        Where it listens.

    Returns
    -------
    list of str
        For ``bench.processes.serving``.
    """
    serve = [str(commands / "feast"), "--chdir", str(repository), "serve", "--port", str(port)]
    serve += ["--workers", "1", "--no-access-log"]
    serve += ["--max-requests", "0", "--registry_ttl_sec", "0"]  # no restarts and no refreshes
    quiet = ["sh", "-c", 'exec "$@" 2> "$0"', str(repository / "serve.log")]
    return ["env", f"HOME={repository}", *quiet, *serve]


def _chunks(column: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [column[start : start + size] for start in range(0, len(column), size)]
