"""Where a measurement runs: scratch, cores, servers that end with it, and who is asked in turns."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.checkouts import HERE, Checkout
from bench.load import Ask, Load, load, write_bodies
from bench.processes import Server, free_port, redis_serving, separate_cores, serving
from bench.world import Shape, World, export

NameT = TypeVar("NameT")
FoundT = TypeVar("FoundT")


class Stage(ExitStack):
    """A scratch folder, and one core for whoever serves beside the others for all the rest.

    Every server ends with the block, and the folder is removed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.service_cores, self.other_cores = separate_cores()
        self._services = 0

    def __enter__(self) -> Self:
        """Make the folder."""
        self.folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        return super().__enter__()

    def redis(self) -> Server:
        """Start a Redis server."""
        return self.enter_context(redis_serving(self.folder, self.other_cores))

    def world(self, shape: Shape) -> World:
        """Start a Redis server and export a version of a shape into it."""
        world = World(shape, self.redis(), self.folder)
        export(self.folder / "bundle", shape, world.url)
        return world

    def serve(
        self,
        store: str,
        *more: str,
        checkout: Checkout = HERE,
        environment: Mapping[str, str] | None = None,
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

        Returns
        -------
        Server
            Ready; its log and its mirrors lie in the scratch folder.
        """
        self._services += 1
        port, mirrors = free_port(), self.folder / f"service-{self._services}"
        command = checkout.module("gkc", "serve", "--store", store, "--port", str(port), *more)
        # Else a few users asked for again and again would be measured, and not reads of the store.
        own = {"GKC_MIRROR_DIR": str(mirrors), "GKC_USER_CACHE_MB": "0"}
        settings = {**own, **checkout.environment, **(environment or {})}
        name, log = f"gkc serve of {checkout.root.name}", mirrors.with_suffix(".log")
        return self.enter_context(
            serving(
                name, command, port, self.service_cores, "/readyz", environment=settings, log=log
            )
        )

    def reference(self, name: str, *more: str) -> Server:
        """Start a server of ``bench.servers`` on the service's core."""
        port = free_port()
        command = HERE.module(f"bench.servers.{name}", "--port", str(port), *more)
        environment = HERE.environment
        return self.enter_context(
            serving(name, command, port, self.service_cores, environment=environment)
        )

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
        run = load(asked, self.other_cores, seconds)
        if run.failed or not run.requests:
            problem = f"{run.failed} of {run.requests} requests failed"
            raise SystemExit(f"{asked.server.name}, {asked.bodies.stem}: {problem}")
        return run

    def in_turns(
        self, asked: Mapping[NameT, Ask], rounds: int, seconds: int
    ) -> dict[NameT, list[Load]]:
        """Ask for everything in each round; return the runs of each."""
        return in_turns({name: partial(self.ask, a, seconds) for name, a in asked.items()}, rounds)


def in_turns(
    measures: Mapping[NameT, Callable[[], FoundT]], rounds: int
) -> dict[NameT, list[FoundT]]:
    """Take every measure once in each round; return what each found, a value for each round."""
    found: dict[NameT, list[FoundT]] = {name: [] for name in measures}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        # Who goes first changes, so that what else the machine does favours nobody.
        for name in reversed(found) if number % 2 else found:
            found[name].append(measures[name]())
    return found


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide what was found of one thing by what was found of another in the same round."""
    return [upper / lower for upper, lower in zip(over, under, strict=True)]
