"""Where a measurement runs: scratch, cores, servers that end with it, and who is asked in turns."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from bench.checkouts import HERE, Checkout
from bench.load import Load, load, write_bodies
from bench.processes import (
    Server,
    free_port,
    redis_serving,
    reference,
    separate_cores,
    serving,
)
from bench.world import Shape, World, export
from keep.served import SAFETENSORS

CONCURRENCY: Final = 4
NameT = TypeVar("NameT")


@dataclass(frozen=True)
class Ask:
    """Requests of one kind to one server."""

    server: Server
    bodies: Path
    accept: str = SAFETENSORS
    concurrency: int = CONCURRENCY
    path: str = "/knowledge"


class Stage:
    """A scratch folder, and one core for whoever serves beside the others for all the rest."""

    def __init__(self) -> None:
        self.own, self.others = separate_cores()
        self._stack = ExitStack()
        self._services = 0

    def __enter__(self) -> Stage:
        """Make the folder."""
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every server, and remove the folder."""
        self._stack.__exit__(kind, error, trace)

    def redis(self) -> tuple[Server, str]:
        """Start a Redis server; return it and its URL."""
        return self._stack.enter_context(redis_serving(self.folder, self.others))

    def world(self, shape: Shape) -> World:
        """Start a Redis server and export a version of a shape into it."""
        server, url = self.redis()
        export(self.folder / "bundle", shape, url)
        return World(shape, server, url, self.folder)

    def serve(
        self,
        store: str,
        *more: str,
        checkout: Checkout = HERE,
        environment: Mapping[str, str] | None = None,
        cores: Collection[int] | None = None,
    ) -> Server:
        """Serve a store as its users do.

        Parameters
        ----------
        store : str
            URL.
        *more : str
            Further options of ``gkc serve``.
        checkout : Checkout
            Whose code.
        environment : mapping, optional
            Settings.
        cores : collection of int, optional
            Of the service; default: its own one.

        Returns
        -------
        Server
            Ready; its log and its mirrors lie in the scratch folder.
        """
        self._services += 1
        port, mirrors = free_port(), self.folder / f"service-{self._services}"
        command = checkout.module("gkc", "serve", "--store", store, "--port", str(port), *more)
        settings = {"GKC_MIRROR_DIR": str(mirrors), **checkout.environment, **(environment or {})}
        running = serving(
            f"gkc serve of {checkout.root.name}",
            command,
            port,
            self.own if cores is None else cores,
            "/readyz",
            settings,
            mirrors.with_suffix(".log"),
        )
        return self._stack.enter_context(running)

    def reference(self, name: str, *more: str) -> Server:
        """Start a server of ``bench.servers`` on the service's core."""
        port = free_port()
        command = reference(name, port, *more)
        return self._stack.enter_context(serving(name, command, port, self.own))

    def write(self, name: str, bodies: Sequence[dict[str, Any]]) -> Path:
        """Write the bodies that a run sends in turn."""
        return write_bodies(bodies, self.folder / f"{name}.jsonl")

    def ask(self, asked: Ask, seconds: int) -> Load:
        """Ask as fast as it is answered, from the other cores.

        Raises
        ------
        SystemExit
            If a request failed.
        """
        found = load(
            asked.server,
            asked.bodies,
            asked.accept,
            self.others,
            concurrency=asked.concurrency,
            seconds=seconds,
            path=asked.path,
        )
        if found.failed or not found.requests:
            told = f"{found.failed} of {found.requests} requests failed"
            raise SystemExit(f"{asked.server.name}, {asked.bodies.stem}: {told}")
        return found

    def in_turns(
        self, asked: Mapping[NameT, Ask], rounds: int, seconds: int
    ) -> dict[NameT, list[Load]]:
        """Ask for everything in each round; return the runs of each."""
        found: dict[NameT, list[Load]] = {name: [] for name in asked}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            # Who goes first changes, so that what else the machine does favours nobody.
            for name in reversed(found) if number % 2 else found:
                found[name].append(self.ask(asked[name], seconds))
        return found


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide what was found of one thing by what was found of another in the same round."""
    return [one / other for one, other in zip(over, under, strict=True)]
