"""Ask the questions and reduce the answers to digests, in which no generation's id is."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from tests.acceptance.golden.bundles import RECIPES, Recipe, write_bundle
from tests.acceptance.golden.questions import Media, Question
from tests.commands import Place, service
from tests.in_process import export

DTYPES = ("f16", "f32", "int8")
GOLDEN = Path(__file__).parents[1] / "golden.json"
GROUP = 100
TWICE_EVERY = 20
"""Of so many questions one is asked for the other media type, too."""
_TYPES = {"json": "application/json", "safetensors": "application/x-safetensors"}
_PATIENCE = {"GKC_STORE_TIMEOUT_MS": "60000", "GKC_REQUEST_TIMEOUT_MS": "60000"}
"""A machine that is busy with other tests is slow and not wrong."""


@contextmanager
def golden_service(
    place: Place, folder: Path, *, recipes: Sequence[Recipe] = RECIPES
) -> Iterator[str]:
    """Export every bundle in every stored type and serve them; yield the service's URL."""
    for recipe in recipes:
        write_bundle(folder / recipe.name, recipe)
    room = ("--max-versions", len(recipes) * len(DTYPES))
    for name, dtype in itertools.product([recipe.name for recipe in recipes], DTYPES):
        export(folder / name, f"{name}-{dtype}", place, "--dtype", dtype, *room)
    with service(place, env=_PATIENCE) as url:
        yield url


def ask_all(url: str, questions: list[Question]) -> dict[str, list[str]]:
    """Ask every question of every stored type; return the groups' digests in their order."""
    groups = [questions[k : k + GROUP] for k in range(0, len(questions), GROUP)]
    with ThreadPoolExecutor(3) as pool:
        asked = {d: [pool.submit(_ask_group, url, d, group) for group in groups] for d in DTYPES}
        return {d: [future.result() for future in futures] for d, futures in asked.items()}


def ask(connection: http.client.HTTPConnection, question: Question, dtype: str) -> str:
    """Ask one question and return the digest of its answer."""
    body, media_type = _encode(question, dtype)
    headers = {"Content-Type": media_type, "Accept": _TYPES[question.accept]}
    connection.request("POST", "/knowledge", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status < 500, f"{answer.status} for {question}: {content!r}"
    if answer.status != 200:
        errors = json.loads(content).get("errors", [])
        return digest(answer.status, sorted(error["field"] for error in errors), {})
    if question.accept == "json":
        return digest_json(content, question.options.get("dtype", "f32"))
    return _digest_safetensors(content)


def connect(url: str) -> closing[http.client.HTTPConnection]:
    """Return a connection that is kept alive and closed at the end of a ``with``."""
    return closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60))


def digest_json(content: bytes | str, dtype: str) -> str:
    """Return the digest of a JSON answer: its numbers are read as doubles and cast."""
    body = json.loads(content)
    width = max((end for _, end in body["parts"].values()), default=0)
    knowledge = np.array(body["knowledge"], np.float64).reshape(len(body["knowledge"]), width)
    tensors = {
        "knowledge": knowledge.astype(np.float16 if dtype == "f16" else np.float32),
        "status": np.array(body["status"], np.uint8).reshape(-1, 4),
    }
    return digest(200, [sorted(body["versions"]), body["parts"]], tensors)


def digest(status: int, facts: list[Any], tensors: dict[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of an answer's status, of what it says besides and of all its bits."""
    sha = hashlib.sha256(json.dumps([status, facts]).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode() + tensor.tobytes())
    return sha.hexdigest()


def _ask_group(url: str, dtype: str, group: list[Question]) -> str:
    """Return one digest of a group's answers, and a digit of each answer's to find it by."""
    with connect(url) as connection:
        digests = [ask(connection, question, dtype) for question in group]
        for question, expected in list(zip(group, digests, strict=True))[::TWICE_EVERY]:
            if question.options.get("layout") != "factored":
                other: Media = "json" if question.accept == "safetensors" else "safetensors"
                again = replace(question, accept=other)
                assert ask(connection, again, dtype) == expected, f"as {other}: {question}"
    of_all = hashlib.sha256("".join(digests).encode()).hexdigest()
    return f"{of_all} {''.join(d[0] for d in digests)}"


def _encode(question: Question, dtype: str) -> tuple[bytes, str]:
    columns = dict(question.columns)
    if isinstance(columns["v"], list):
        columns["v"] = [name.format(dtype) for name in columns["v"]]
    elif isinstance(columns["v"], str):
        columns["v"] = columns["v"].format(dtype)
    if question.form == "safetensors":
        return _encode_safetensors(columns, question.options), _TYPES["safetensors"]
    body = {"quadruples": _quadruples(columns)} if question.form == "quadruples" else columns
    return json.dumps(body | question.options).encode(), _TYPES["json"]


def _quadruples(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row as an object each; of the rows without a category every other says null."""
    n = len(columns["i"])
    lists = {name: c if isinstance(c, list) else [c] for name, c in columns.items()}
    rows = [{name: c[k % len(c)] for name, c in lists.items()} for k in range(n)]
    for row in rows[::2]:
        if row.get("c", 0) is None:
            del row["c"]
    return rows


def _encode_safetensors(columns: dict[str, Any], options: dict[str, Any]) -> bytes:
    versions = columns.pop("v")
    metadata = {"v": versions if isinstance(versions, str) else json.dumps(versions)}
    for name, value in options.items():
        metadata[name] = value if isinstance(value, str) else json.dumps(value)
    tensors = {name: np.array(ids, np.int64).reshape(-1) for name, ids in columns.items()}
    return safetensors.numpy.save(tensors, metadata)


def _digest_safetensors(content: bytes) -> str:
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    facts = [sorted(json.loads(metadata["versions"])), json.loads(metadata["parts"])]
    return digest(200, facts, safetensors.numpy.load(content))
