"""Exchanges with a service over a connection that is kept, and what clients are asked with them."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any, Final

import numpy as np

from bench.world import VERSION, Shape, questions
from gkc.knowledge import SAFETENSORS
from gkc.safetensors import dump

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


def headers_of(media_type: str) -> dict[str, str]:
    """Return the headers of a question of this type, to be answered in safetensors."""
    return {"Content-Type": media_type, "Accept": SAFETENSORS}


def exchange(connection: HTTPConnection, body: bytes, media_type: str = SAFETENSORS) -> None:
    """Ask, and read the whole answer.

    Raises
    ------
    SystemExit
        If it is refused.
    """
    connection.request("POST", "/knowledge", body, headers_of(media_type))
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"answered {response.status}: {answer[:500]!r}")
