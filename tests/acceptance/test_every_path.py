"""100,000 random rows on every path: one set of bits and statuses, those of the reference."""

from __future__ import annotations

import http.client
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from tests.acceptance.batches import (
    ID_TYPES,
    Answer,
    Batch,
    IdOf,
    batches,
    check,
    expected,
)
from tests.acceptance.golden.answers import connect, golden_service
from tests.acceptance.reference import unfactor
from tests.commands import BIN, Place, done
from tests.gkc.client.clients import KINDS, opened

JSON, SAFETENSORS = "application/json", "application/x-safetensors"
ASKED_BY_GET = 50
SECONDS = 60.0
PIECE_ROWS = {"blocking": 300, "async": 10_000}
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
    """A store that is served, what was asked of it and what must be answered."""

    place: Place
    url: str
    folder: Path
    id_of: IdOf
    generations: dict[str, str]
    asked: list[tuple[Batch, Answer]]


@pytest.mark.parametrize("ids", ID_TYPES)
def test_every_path_gives_the_bits_of_the_reference(ids: str, place: Place, tmp_path: Path) -> None:
    with golden_service(place, tmp_path / "bundles") as url:
        with connect(url) as connection:
            connection.request("GET", "/versions")
            listed = json.load(connection.getresponse())["versions"]
        generations = {told["version"]: told["generation"] for told in listed}
        asked = [(batch, expected(batch)) for batch in batches()]
        center = Center(place, url, tmp_path, ID_TYPES[ids], generations, asked)
        _check_draw(asked)
        _check_http(center)
        for kind in KINDS:
            _check_client(center, kind, url)
            _check_client(
                center, kind, place.url, namespace=place.namespace, mirror_dir=tmp_path / kind
            )
        _check_join(center)
        _check_get(center)


def _check_draw(asked: list[tuple[Batch, Answer]]) -> None:
    """Check that what may hide a difference is among what is asked."""
    assert sum(batch.n for batch, _ in asked) == 100_000
    assert {n for batch, _ in asked if (n := batch.n) in (1, 1000)} == {1, 1000}
    status = np.concatenate([answer.status for _, answer in asked])
    assert [set(column) for column in status.T.tolist()] == [{0, 1, 2}] * 4
    for dtype in (np.float16, np.float32):
        chosen = [a.knowledge.ravel() for _, a in asked if a.knowledge.dtype == dtype]
        numbers = np.concatenate(chosen)
        assert np.isfinite(numbers).all()
        assert np.signbit(numbers[numbers == 0]).any()
        assert (np.abs(numbers[numbers != 0]) < np.finfo(dtype).smallest_normal).any()


def _check_http(center: Center) -> None:
    """Ask by JSON and safetensors, for rows in both and for factored vectors."""
    with connect(center.url) as connection:
        for k, (batch, want) in enumerate(center.asked):
            told = _post(connection, *_json_question(center, batch, k % 3 == 0), JSON)
            _check_versions(center, batch, json.loads(told)["versions"])
            check(_read_json(told, batch), want, f"JSON: {batch}")

            question = _binary_question(center, batch)
            told = _post(connection, *question, SAFETENSORS)
            tensors, metadata = _read(told)
            _check_versions(center, batch, json.loads(metadata["versions"]))
            answer = Answer(tensors["knowledge"], tensors["status"], _spans(metadata))
            check(answer, want, f"safetensors: {batch}")

            if len(batch.versions) == 1:
                question = _binary_question(center, batch, layout="factored")
                tensors, metadata = _read(_post(connection, *question, SAFETENSORS))
                spans = _spans(metadata)
                rows = unfactor(tensors, tuple(spans)).astype(want.knowledge.dtype)
                check(Answer(rows, tensors["status"], spans), want, f"factored: {batch}")


def _json_question(center: Center, batch: Batch, as_quadruples: bool) -> tuple[bytes, str]:
    columns = batch.columns(center.id_of)
    body = {"quadruples": _quadruples(columns, batch.n)} if as_quadruples else columns
    return json.dumps({**body, **_options(batch)}).encode(), JSON


def _quadruples(columns: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Return a row as an object each; of the rows without a category every other says null."""
    lists = {name: c if isinstance(c, list) else [c] * n for name, c in columns.items()}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    for row in rows[::2]:
        if row.get("c", 0) is None:
            del row["c"]
    return rows


def _binary_question(center: Center, batch: Batch, **layout: str) -> tuple[bytes, str]:
    """Return a question in safetensors; in JSON where only that can ask it."""
    options = {**_options(batch), **layout}
    columns = batch.columns(center.id_of)
    if batch.has_nulls:
        return json.dumps({**columns, **options}).encode(), JSON
    versions = columns.pop("v")
    metadata = {name: v if isinstance(v, str) else json.dumps(v) for name, v in options.items()}
    metadata["v"] = versions if isinstance(versions, str) else json.dumps(versions)
    tensors = {name: np.array(ids, np.int64).reshape(-1) for name, ids in columns.items()}
    return safetensors.numpy.save(tensors, metadata), SAFETENSORS


def _options(batch: Batch) -> dict[str, Any]:
    return {"dtype": batch.dtype} | ({} if batch.parts is None else {"parts": batch.parts})


def _post(
    connection: http.client.HTTPConnection, body: bytes, media_type: str, accept: str
) -> bytes:
    connection.request("POST", "/knowledge", body, {"Content-Type": media_type, "Accept": accept})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return content


def _read(content: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    length = int.from_bytes(content[:8], "little")
    return safetensors.numpy.load(content), json.loads(content[8 : 8 + length])["__metadata__"]


def _spans(metadata: dict[str, str]) -> dict[str, tuple[int, int]]:
    return {part: tuple(span) for part, span in json.loads(metadata["parts"]).items()}


def _read_json(content: bytes | str, batch: Batch) -> Answer:
    """Read numbers as doubles and cast them, as the contract says."""
    body = json.loads(content)
    numbers = np.array(body["knowledge"], np.float64)
    return Answer(
        numbers.astype(np.float16 if batch.dtype == "f16" else np.float32),
        np.array(body["status"], np.uint8),
        {part: tuple(span) for part, span in body["parts"].items()},
    )


def _check_versions(center: Center, batch: Batch, told: dict[str, str]) -> None:
    assert told == {version: center.generations[version] for version in batch.versions}


def _check_client(center: Center, kind: str, url: str, **options: Any) -> None:
    with opened(kind, url, timeout=SECONDS, max_rows=PIECE_ROWS[kind], **options) as client:
        for batch, want in center.asked:
            told = client.knowledge(**batch.columns(center.id_of), **_options(batch))
            _check_versions(center, batch, dict(told.versions))
            answer = Answer(told.rows, told.status, dict(told.parts))
            check(answer, want, f"{kind} client of {url}: {batch}")


def _check_join(center: Center) -> None:
    """Join the rows of all batches that one table can hold: of one form, with category or not."""
    tables: dict[Any, list[tuple[Batch, Answer]]] = defaultdict(list)
    for batch, want in center.asked:
        width = want.knowledge.shape[1]
        tables[batch.parts, batch.dtype, width, batch.c is None].append((batch, want))
    commands = []
    for k, ((parts, dtype, *_), asked) in enumerate(tables.items()):
        pq.write_table(_table(center, asked), center.folder / f"rows-{k}.parquet")
        form = ["--dtype", dtype, *([] if parts is None else ["--parts", ",".join(parts)])]
        files = [str(center.folder / f"{name}-{k}.parquet") for name in ("rows", "joined")]
        commands.append(["join", "--version-column", "v", *form, *files])
    _run_many(center, commands)
    for k, asked in enumerate(tables.values()):
        joined = pq.read_table(center.folder / f"joined-{k}.parquet")
        versions = json.loads(joined.schema.metadata[b"gkc.versions"])
        assert versions.items() <= center.generations.items()
        knowledge, status = _lists(joined["knowledge"]), _lists(joined["status"])
        first = 0
        for batch, want in asked:
            rows = slice(first, first + batch.n)
            check(Answer(knowledge[rows], status[rows], want.spans), want, f"join: {batch}")
            first += batch.n
        assert first == len(joined)


def _table(center: Center, asked: Iterable[tuple[Batch, Answer]]) -> pa.Table:
    rows = [row for batch, _ in asked for row in batch.rows()]
    users, items, categories, versions = zip(*rows, strict=True)
    id_of = center.id_of
    columns: dict[str, Any] = {
        "user_id": [id_of(u) for u in users],
        "item_id": [id_of(i) for i in items],
        "v": list(versions),
    }
    if set(categories) != {None}:
        columns["category_id"] = [None if c is None else id_of(c) for c in categories]
    return pa.table(columns)


def _lists(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)


def _check_get(center: Center) -> None:
    """Ask rows out of batches that ask for whole rows in float32, for ``gkc get`` asks no less."""
    rows = list(_single_rows(center))
    chosen = rows[:: len(rows) // ASKED_BY_GET][:ASKED_BY_GET]
    commands = []
    for batch, _ in chosen:
        columns = batch.columns(str)
        names = {"u": "user", "i": "item", "c": "category", "v": "version"}
        asked = {name: c[0] if isinstance(c, list) else c for name, c in columns.items()}
        commands.append(
            ["get", "--json", *(f"--{names[k]}={c}" for k, c in asked.items() if c is not None)]
        )
    told = _run_many(center, commands).splitlines()
    for line, (batch, want) in zip(told, chosen, strict=True):
        _check_versions(center, batch, json.loads(line)["versions"])
        check(_read_json(line, batch), want, f"gkc get: {batch}")


def _single_rows(center: Center) -> Iterator[tuple[Batch, Answer]]:
    for batch, want in center.asked:
        if batch.parts is None and batch.dtype == "f32":
            for k, (u, i, c, v) in enumerate(batch.rows()):
                one = Answer(want.knowledge[k : k + 1], want.status[k : k + 1], want.spans)
                yield Batch(1, [u], [i], None if c is None else [c], v, None, "f32"), one


def _run_many(center: Center, commands: list[list[str]]) -> str:
    """Run the installed ``gkc`` many times in one process, for it is slow to start."""
    path = center.folder / "commands.json"
    path.write_text(json.dumps(commands))
    mirrors = {"GKC_MIRROR_DIR": str(center.folder / "mirrors")}
    return done("python", "-c", _RUN_MANY, BIN / "gkc", path, place=center.place, env=mirrors)
