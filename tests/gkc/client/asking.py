"""A question as a client is asked it, with what a test changes of it."""

from __future__ import annotations

from typing import Any

from gkc.client.question import question_of


def ask(**changes: Any) -> Any:
    told: dict[str, Any] = {
        "u": 7,
        "i": [1, 2],
        "c": None,
        "v": "v1",
        "parts": None,
        "dtype": "f32",
    }
    return question_of(**(told | changes))
