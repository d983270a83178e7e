"""A running service without a socket: the real application on a real store, asked in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import safetensors
import safetensors.numpy
import uvicorn

from gkc.http.admission import Admission
from gkc.http.app import Service
from gkc.http.limits import LIMITS, Limits
from gkc.http.metrics import Metrics
from gkc.http.run import server_options
from gkc.settings import Settings
from gkc.store import KnowledgeReader, open_reader
from tests.fakes import UnreliableReader
from tests.gkc.world import PARTS, World

SAFETENSORS = "application/x-safetensors"
JSON = "application/json"
QUESTION = {"u": 7, "i": [11, 12], "v": "v1"}
_PAUSE_SECONDS = 0.01
_FAST = {"refresh_ms": 5, "store_timeout_ms": 200}


@asynccontextmanager
async def running(
    url: str, *, reader: KnowledgeReader | None = None, ready: bool = True, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """Run a service and yield a client of it, once it is ready."""
    told = Settings(store_url=url, **settings)
    opened = reader or open_reader(url, told.namespace, mirror_dir=told.mirror_dir)
    service = Service(told, opened)
    transport = httpx.ASGITransport(service)
    async with (
        service.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://gkc") as client,
    ):
        if ready:
            await eventually(lambda: is_ready(client))
        yield client, service


@asynccontextmanager
async def listening(
    application: Any,
    limits: Limits = LIMITS,
    metrics: Metrics | None = None,
    admission: Admission | None = None,
) -> AsyncIterator[int]:
    """Run a real server, without the loop that looks ten times a second whether to end."""
    options = server_options(metrics or Metrics(), limits, admission) | {"lifespan": "off"}
    config = uvicorn.Config(application, port=0, **options)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


async def eventually(holds: Callable[[], Awaitable[bool]], timeout_seconds: float = 10.0) -> None:
    """Wait until an async check holds."""
    for _ in range(int(timeout_seconds / _PAUSE_SECONDS)):
        if await holds():
            return
        await asyncio.sleep(_PAUSE_SECONDS)
    raise AssertionError(f"{holds} does not hold after {timeout_seconds} s")


@asynccontextmanager
async def unreliable(
    url: str, *, ready: bool = True, **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service, UnreliableReader]]:
    reader = UnreliableReader(open_reader(url))
    async with running(url, reader=reader, ready=ready, **(_FAST | settings)) as (client, service):
        yield client, service, reader


def answers(client: httpx.AsyncClient, world: World) -> Callable[[], Any]:
    async def check() -> bool:
        response = await ask(client, QUESTION | {"v": world.version})
        return response.status_code == 200 and response.json()["versions"] == {
            world.version: world.generation
        }

    return check


async def status(client: httpx.AsyncClient, version: str = "v1") -> int:
    return (await ask(client, QUESTION | {"v": version})).status_code


async def store_errors(client: httpx.AsyncClient, operation: str) -> float:
    line = f'gkc_store_errors_total{{operation="{operation}"}} '
    text = (await client.get("/metrics")).text
    return float(next(x for x in text.splitlines() if x.startswith(line)).removeprefix(line))


async def ask(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    """Ask for knowledge in JSON."""
    return await client.post("/knowledge", json=body, headers=headers)


@dataclass(frozen=True)
class Told:
    """An answer as a client reads it."""

    versions: dict[str, str]
    parts: dict[str, list[int]]
    knowledge: np.ndarray[tuple[int, ...], np.dtype[Any]]
    status: list[list[int]]


def read_json(response: httpx.Response, dtype: str = "f32") -> Told:
    """Read a JSON answer as the contract says: numbers as doubles, cast to the answer's type."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == JSON
    value = response.json()
    doubles = np.array(value["knowledge"], dtype=np.float64)
    if not value["knowledge"]:
        doubles = doubles.reshape(0, max((e for _, e in value["parts"].values()), default=0))
    kind = np.float16 if dtype == "f16" else np.float32
    return Told(value["versions"], value["parts"], doubles.astype(kind), value["status"])


def read_safetensors(response: httpx.Response) -> Told:
    """Read a safetensors answer with the reference library."""
    tensors, metadata = open_safetensors(response)
    return Told(
        json.loads(metadata["versions"]),
        json.loads(metadata["parts"]),
        tensors["knowledge"],
        tensors["status"].tolist(),
    )


def open_safetensors(
    response: httpx.Response,
) -> tuple[dict[str, np.ndarray[tuple[int, ...], np.dtype[Any]]], dict[str, str]]:
    """Return an answer's tensors and metadata, read by the reference library."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == SAFETENSORS
    length = int.from_bytes(response.content[:8], "little")
    metadata = json.loads(response.content[8 : 8 + length])["__metadata__"]
    return safetensors.numpy.load(response.content), metadata


def rows_of_factored(response: httpx.Response, parts: Sequence[str]) -> Told:
    """Compute the rows from a factored answer, as a client does."""
    tensors, metadata = open_safetensors(response)
    f32 = {k: t.astype(np.float32) for k, t in tensors.items() if t.dtype.kind == "f"}
    status = tensors["status"]
    columns = []
    for part in PARTS:
        if part not in parts:
            continue
        if part == "user":
            columns.append(f32["user"][tensors["user_index"]])
        elif part == "item":
            columns.append(f32["item"])
        elif part == "user_category":
            columns.append(f32["user_category"][tensors["user_category_index"]])
        else:
            product = f32["user"][tensors["user_index"]] * f32["item"]
            product[status[:, 2] == 0] = 0.0
            columns.append(product)
    return Told(
        json.loads(metadata["versions"]),
        json.loads(metadata["parts"]),
        np.concatenate(columns, axis=1),
        status.tolist(),
    )


class Session:
    """A service that many synchronous tests ask, each question in one go."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def post(self, body: Any = None, **request: Any) -> httpx.Response:
        """Post a JSON body, or whatever ``request`` says, to /knowledge."""
        given = request if body is None else {"json": body, **request}
        return self._runner.run(self._client.post("/knowledge", **given))

    def get(self, path: str) -> httpx.Response:
        return self._runner.run(self._client.get(path))


@contextmanager
def session(url: str, **settings: Any) -> Iterator[Session]:
    """Run a service for synchronous tests."""
    with asyncio.Runner() as runner:
        context = running(url, **settings)
        client, _ = runner.run(context.__aenter__())
        try:
            yield Session(runner, client)
        finally:
            runner.run(context.__aexit__(None, None, None))
