"""A knowledge row: the names, order and widths of its parts, and the names of their statuses.

KEEP (CIKM'22), equation 6: ``K(u, i, c) = [K_u, K_i, K_u * K_i, K_uc]``. Serving takes the layout
from here, and so does what reads an answer. Which status a part has, and which numbers, is decided
by ``gkc_lay_rows`` in ``gkc/rows.c``. Training lays the same row in ``keep/knowledge.py``, against
which ``tests/keep/test_serving.py`` holds what is served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Part = Literal["user", "item", "user_item", "user_category"]
PARTS: Final[tuple[Part, ...]] = ("user", "item", "user_item", "user_category")
"""The parts of a row, in the order they always have."""

ABSENT: Final = 0
FOUND: Final = 1
DEFAULT: Final = 2
"""Status of one row and part: zeros, the exported vector, or the generation's default vector."""
STATUSES: Final = 3

SAFETENSORS: Final = "application/x-safetensors"
"""Media type of rows whose numbers are bytes: no digit is lost on the way."""

NAME_PATTERN: Final = r"^[A-Za-z0-9._-]{1,64}\Z"
"""Of a version's name."""

Vectors = npt.NDArray[np.float32 | np.float16]


@lru_cache(maxsize=1024)
def is_version_name(name: str) -> bool:
    """Tell whether ``name`` may name a version: 1 to 64 of ``A-Z a-z 0-9 . _ -``."""
    return re.match(NAME_PATTERN, name) is not None


def part_spans(
    parts: Sequence[Part], dim: int, category_dim: int
) -> Mapping[Part, tuple[int, int]]:
    """Return the columns of each part in a row made of ``parts``.

    Parameters
    ----------
    parts : sequence of str
        The parts of the row; their given order does not matter, rows always have the fixed order.
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.

    Returns
    -------
    mapping of str to (int, int)
        First column and end column of each part, in row order.

    References
    ----------
    KEEP (CIKM'22), equation 6.
    """
    spans: dict[Part, tuple[int, int]] = {}
    start = 0
    for part in PARTS:
        if part in parts:
            end = start + (category_dim if part == "user_category" else dim)
            spans[part] = (start, end)
            start = end
    return MappingProxyType(spans)


def row_width(dim: int, category_dim: int) -> int:
    """Return how many numbers a row of all parts has."""
    return max(end for _, end in part_spans(PARTS, dim, category_dim).values())
