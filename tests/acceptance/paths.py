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

from tests.acceptance.batches import BUNDLES, Answer, Batch, IdOf
from tests.acceptance.golden.answers import connect, golden_service
from tests.acceptance.reference import unfactor
from tests.commands import BIN, Place, done
from tests.gkc.client.clients import KINDS, opened

JSON, SAFETENSORS = "application/json", "application/x-safetensors"
_SECONDS = 60.0
_PIECE_ROWS = {"blocking": 300, "async": 10_000}
"""Of the clients one asks large batches in pieces."""

_RUN_MANY = """
import json, runpy, sys
script, commands = sys.argv[1], json.load(open(sys.argv[2]))
for arguments in commands:
    sys.argv = ["gkc", *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, arguments
"""


@dataclass(frozen=True)
class Center:
    """A store with every bundle in it, what serves it, and clients of both."""

    place: Place
    folder: Path
    id_of: IdOf
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

    def run_many(self, commands: list[list[str]]) -> str:
        """Run the installed ``gkc`` many times in one process, for it is slow to start."""
        path = self.folder / "commands.json"
        path.write_text(json.dumps(commands))
        return done("python", "-c", _RUN_MANY, BIN / "gkc", path, place=self.place)


@contextmanager
def center(place: Place, folder: Path, id_of: IdOf) -> Iterator[Center]:
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
        yield Center(place, folder, id_of, connection, clients)


def json_question(batch: Batch, id_of: IdOf, *, by_row: bool, **more: Any) -> tuple[bytes, str]:
    """Return a question in JSON, in columns or row by row, and its media type."""
    columns = batch.columns(id_of)
    body = {"quadruples": _quadruples(columns, batch.n)} if by_row else columns
    return json.dumps(body | batch.options() | more).encode(), JSON


def binary_question(batch: Batch, id_of: IdOf, **more: str) -> tuple[bytes, str]:
    """Return a question in safetensors, and its media type; in JSON where only that can ask it."""
    if batch.has_nulls:
        return json_question(batch, id_of, by_row=False, **more)
    columns = batch.columns(id_of)
    texts = {"v": columns.pop("v"), **batch.options(), **more}
    metadata = {name: v if isinstance(v, str) else json.dumps(v) for name, v in texts.items()}
    tensors = {name: np.array(ids, np.int64).reshape(-1) for name, ids in columns.items()}
    return safetensors.numpy.save(tensors, metadata), SAFETENSORS


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


def table(batches: Iterable[Batch], id_of: IdOf) -> pa.Table:
    """Return the rows of batches as a table to join, with category where one is given."""
    rows = [row for batch in batches for row in batch.rows()]
    users, items, categories, versions = zip(*rows, strict=True)
    columns: dict[str, Any] = {
        "user_id": [id_of(u) for u in users],
        "item_id": [id_of(i) for i in items],
        "v": list(versions),
    }
    if set(categories) != {None}:
        columns["category_id"] = [None if c is None else id_of(c) for c in categories]
    return pa.table(columns)


def get_words(batch: Batch, id_of: IdOf) -> list[str]:
    """Return the words of ``gkc get --json`` for the first row of a batch."""
    user, item, category, version = next(batch.rows())
    given = [] if category is None else [f"--category={id_of(category)}"]
    asked = [f"--user={id_of(user)}", f"--item={id_of(item)}", f"--version={version}"]
    return ["get", "--json", *asked, *given]
