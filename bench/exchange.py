"""Bare exchanges with a server by `http.client`, and what clients are asked beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import Server
from bench.world import VERSION, Shape, questions
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import dump, load

JSON: Final = "application/json"
ROWS: Final = 500
CALLS: Final = 300
"""Of each in a round."""
Question = Mapping[str, Any]
"""What a client is asked."""


def client_questions(shape: Shape) -> list[Question]:
    """Draw questions, 1 user by so many items, as a client takes them."""
    drawn = questions(shape, ROWS, CALLS, seed=1)
    return [{**body, "i": np.array(body["i"]), "dtype": "f16"} for body in drawn]


def encoded(question: Question) -> bytes:
    """Return a question as safetensors."""
    tensors = {"u": np.array([question["u"]]), "i": question["i"]}
    return b"".join(dump(tensors, {"v": VERSION, "dtype": question["dtype"]}))


def headers_of(media_type: str, accept: str = SAFETENSORS) -> dict[str, str]:
    """Return the headers of a question of one type, to be answered in another."""
    return {"Content-Type": media_type, "Accept": accept}


def exchange(
    connection: HTTPConnection,
    body: bytes,
    media_type: str = SAFETENSORS,
    accept: str = SAFETENSORS,
    path: str = "/knowledge",
) -> bytes:
    """Ask, and return the bytes of the whole answer.

    Raises
    ------
    SystemExit
        If it is refused.
    """
    connection.request("POST", path, body, headers_of(media_type, accept))
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"port {connection.port} answered {response.status}: {answer[:500]!r}")
    return answer


def post(
    server: Server, body: Mapping[str, Any], accept: str = JSON, path: str = "/knowledge"
) -> bytes:
    """Ask a server once, in JSON, on a connection of its own; return the answer's bytes."""
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        return exchange(connection, json.dumps(body).encode(), JSON, accept, path)


def answer_of(service: Server, body: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Ask a service once; return the tensors of its answer, by name."""
    tensors, _ = load(post(service, body, SAFETENSORS))
    return tensors


def counted(service: Server, name: str, **labels: str) -> float:
    """Return what a service has counted so far under a name, for these labels."""
    with closing(HTTPConnection("127.0.0.1", service.port)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
