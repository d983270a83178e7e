"""Each way to ask a question: HTTP in its media types and layouts, clients, commands."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.numpy

from tests.acceptance.batches import BUNDLES, ID_TYPES, Answer, Batch, IdType
from tests.acceptance.golden.answers import connect, golden_service
from tests.acceptance.reference import unfactor
from tests.commands import Place
from tests.gkc.client.clients import KINDS, opened

JSON, SAFETENSORS = "application/json", "application/x-safetensors"
_SECONDS = 60.0
_PIECE_ROWS = {"blocking": 300, "async": 10_000}
"""Of the clients one asks large batches in pieces."""


@dataclass(frozen=True)
class Center:
    """A store with every bundle in it, what serves it, and clients of both; asked by one type."""

    place: Place
    folder: Path
    ids: IdType
    connection: http.client.HTTPConnection
    clients: dict[str, Any]

    def post(self, question: tuple[bytes, str], accept: str) -> tuple[int, bytes]:
        """Send a question and its media type; return the answer's status and body."""
        headers = {"Content-Type": question[1], "Accept": accept}
        self.connection.request("POST", "/knowledge", question[0], headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def generations(self) -> dict[str, str]:
        """Return which generation each version has."""
        self.connection.request("GET", "/versions")
        listed = json.load(self.connection.getresponse())["versions"]
        return {told["version"]: told["generation"] for told in listed}


@contextmanager
def center(place: Place, folder: Path) -> Iterator[Center]:
    """Export every bundle in every stored type, serve them, and open clients."""
    with golden_service(place, folder / "bundles", recipes=BUNDLES) as url, ExitStack() as stack:
        connection = stack.enter_context(connect(url))
        clients = {}
        for kind in KINDS:
            limits = {"timeout": _SECONDS, "max_rows": _PIECE_ROWS[kind]}
            over_http = opened(kind, url, **limits)
            here = opened(kind, place.url, namespace=place.namespace, **limits)
            clients[f"{kind} client over HTTP"] = stack.enter_context(over_http)
            clients[f"{kind} client in process"] = stack.enter_context(here)
        yield Center(place, folder, ID_TYPES[0], connection, clients)


def json_question(batch: Batch, ids: IdType, *, by_row: bool, **more: Any) -> tuple[bytes, str]:
    """Return a question in JSON, in columns or row by row in ASCII, and its media type."""
    columns = batch.columns(ids)
    body = {"quadruples": _quadruples(columns, batch.n)} if by_row else columns
    asked = json.dumps(body | batch.options() | more, ensure_ascii=by_row)
    return asked.encode(), JSON


def binary_question(batch: Batch, ids: IdType, **more: str) -> tuple[bytes, str]:
    """Return a question in safetensors, and its media type."""
    columns = batch.columns(ids)
    texts = {"v": columns.pop("v"), **batch.options(), **more}
    metadata = {name: v if isinstance(v, str) else json.dumps(v) for name, v in texts.items()}
    tensors: dict[str, Any] = {}
    for name, given in columns.items():
        tensors |= _tensors(name, given if isinstance(given, list) else [given])
    return safetensors.numpy.save(tensors, metadata), SAFETENSORS


def _tensors(name: str, given: list[Any]) -> dict[str, Any]:
    """Return the tensors of a column: what is not given is 0 or the empty string."""
    tensors: dict[str, Any] = {}
    if None in given:
        tensors[f"{name}_given"] = np.array([value is not None for value in given], np.uint8)
    if not any(isinstance(value, str) for value in given):
        return {name: np.array([value or 0 for value in given], np.int64), **tensors}
    raw = [(value or "").encode() for value in given]
    tensors[f"{name}_offsets"] = np.cumsum([0, *map(len, raw)], dtype=np.int64)
    return {name: np.frombuffer(b"".join(raw), np.uint8), **tensors}


def _quadruples(columns: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Return a row as an object each; of the rows without a category every other says null."""
    lists = {name: c if isinstance(c, list) else [c] * n for name, c in columns.items()}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    for row in rows[::2]:
        if row.get("c", 0) is None:
            del row["c"]
    return rows


def read_json(content: bytes | str, dtype: str) -> Answer:
    """Read an answer in JSON: numbers as doubles, then cast, as the contract says."""
    body = json.loads(content)
    numbers = np.array(body["knowledge"], np.float64)
    return Answer(
        numbers.astype(np.float16 if dtype == "f16" else np.float32),
        np.array(body["status"], np.uint8),
        _spans(body["parts"]),
        body["versions"],
    )


def read_rows(content: bytes) -> Answer:
    """Read an answer in safetensors."""
    tensors, spans, versions = _read(content)
    return Answer(tensors["knowledge"], tensors["status"], spans, versions)


def read_factored(content: bytes, dtype: str) -> Answer:
    """Read distinct vectors, lay their rows, and cast them."""
    tensors, spans, versions = _read(content)
    rows = unfactor(tensors, tuple(spans)).astype(np.float16 if dtype == "f16" else np.float32)
    return Answer(rows, tensors["status"], spans, versions)


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, tuple[int, int]], dict[str, str]]:
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    spans, versions = _spans(json.loads(metadata["parts"])), json.loads(metadata["versions"])
    return safetensors.numpy.load(content), spans, versions


def _spans(parts: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    return {part: (start, end) for part, (start, end) in parts.items()}


def table(batches: Iterable[Batch], ids: IdType) -> pa.Table:
    """Return the rows of batches as a table to join, with category where one is given."""
    rows = [row for batch in batches for row in batch.rows()]
    users, items, categories, versions = zip(*rows, strict=True)
    columns: dict[str, Any] = {
        "user_id": [ids.id_of(u) for u in users],
        "item_id": [ids.id_of(i) for i in items],
        "v": [ids.version(v) for v in versions],
    }
    if set(categories) != {None}:
        columns["category_id"] = [None if c is None else ids.id_of(c) for c in categories]
    return pa.table(columns)


def get_words(batch: Batch, ids: IdType) -> list[str]:
    """Return the words of ``gkc get --json`` for a batch of one user, category and version."""
    columns = batch.columns(ids)
    given = [] if columns.get("c") is None else [f"--category={columns['c']}"]
    asked = [f"--user={columns['u']}", f"--item={columns['i'][0]}", f"--version={columns['v']}"]
    return ["gkc", "get", "--json", *asked, *given]
