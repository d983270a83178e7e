"""Rows from distinct vectors: fewer bytes on the way, the very bits of `rows` in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gkc.arrays import F32, Array
from gkc.center.question import Question
from gkc.errors import InvalidFieldsError
from gkc.knowledge import ABSENT, PARTS, Part

_FLOAT32: Final = np.dtype("<f4")
_INDEX_BYTES: Final = 4
_WORTHWHILE_BYTES: Final = 128 << 10
"""Saving less than this does not pay for the work."""
_HALF_BITS: Final = np.uint32(0x8FFFE000).view(np.int32)
"""Sign, exponent and mantissa of a half, shifted to where a float32 has them."""
_HALF_SCALE: Final = np.float32(2.0**112)
"""What makes up for the smaller bias of a half's exponent."""
_PRODUCT: Final = PARTS.index("user_item")


def is_worthwhile(question: Question, version: Mapping[str, Any]) -> bool:
    """Tell whether a version's distinct vectors take half of the rows' bytes or less.

    ``version`` is what ``GET /versions`` tells of it. The pairs are counted as if each row had its
    own.
    """
    if question.dtype != "f32":
        return False
    columns, parts, n = question.columns, question.parts, question.columns.n
    dim: int = version["dim"]
    wide: int = version["category_dim"] if "user_category" in parts else 0
    number_bytes = 2 if version["dtype"] == "f16" else 4
    row_bytes = 4 * (dim * len(set(parts) - {"user_category"}) + wide)
    vectors = n * wide
    if "item" in parts or "user_item" in parts:
        vectors += n * dim
    if n * row_bytes - vectors * number_bytes < _WORTHWHILE_BYTES:
        return False
    if "user" in parts or "user_item" in parts:
        users = columns.users
        vectors += (1 if len(users) == 1 else len(set(users.tolist()))) * dim
    factored_bytes = vectors * number_bytes + 2 * n * _INDEX_BYTES
    return 2 * factored_bytes <= n * row_bytes


def fault_of_tensors(
    question: Question, tensors: Mapping[str, Array], spans: Mapping[str, tuple[int, int]]
) -> str:
    """Say what of the vectors does not fit the question or the parts, if anything."""
    named = _indexes(question.parts)
    expected = {"status", *named, *(index for index in named.values() if index)}
    if tensors.keys() != expected:
        return f"it holds the tensors {', '.join(tensors)}, not {', '.join(sorted(expected))}"
    n = question.columns.n
    types = {tensors[name].dtype for name in named}
    if len(types) > 1 or not types <= {_FLOAT32, np.dtype("<f2")}:
        return f"its vectors are {', '.join(sorted(map(str, types)))}"
    for name, index_name in named.items():
        start, end = spans.get(name) or spans["user_item"]
        vectors = tensors[name]
        if vectors.ndim != 2 or vectors.shape[1] != end - start:
            return f"its {name} are of shape {list(vectors.shape)}, not {end - start} wide"
        if not index_name:
            if len(vectors) != n:
                return f"its {name} are {len(vectors)}, not {n}"
            continue
        index = tensors[index_name]
        if index.dtype != np.int32 or index.shape != (n,):
            return f"its {index_name} is {index.dtype} of shape {list(index.shape)}"
        if n and not 0 <= index.min() <= index.max() < len(vectors):
            return f"its {index_name} points beyond its {len(vectors)} vectors"
    return ""


def rows_of(
    question: Question, tensors: Mapping[str, Array], spans: Mapping[str, tuple[int, int]]
) -> F32:
    """Lay the rows, shape (n, width): equation 6, all of it in float32.

    Raises
    ------
    InvalidFieldsError
        If a product is not finite.
    """
    n, width = question.columns.n, max((end for _, end in spans.values()), default=0)
    rows = np.empty((n, width), dtype=np.float32)
    items = _float32(tensors["item"]) if "item" in tensors else None
    for part, (start, end) in spans.items():
        out = rows[:, start:end]
        if part in ("user", "user_category"):
            out[:] = _of_each_row(tensors, part)
        elif part == "item":
            out[:] = items
        else:
            _lay_product(question, tensors, items, out)
    return rows


def _of_each_row(tensors: Mapping[str, Array], name: str) -> F32:
    """Return the vector of each row, or the one that stands for all."""
    vectors = _float32(tensors[name])
    index: Any = tensors[f"{name}_index"]
    return vectors if len(vectors) == 1 else vectors.take(index, axis=0)


def _lay_product(question: Question, tensors: Mapping[str, Array], items: Any, out: F32) -> None:  # noqa: ANN401
    with np.errstate(over="ignore"):  # told below
        np.multiply(_of_each_row(tensors, "user"), items, out=out)
    is_absent = tensors["status"][:, _PRODUCT] == ABSENT
    if is_absent.any():
        out[is_absent] = 0.0
    if tensors["user"].dtype == np.float32 and not np.isfinite(out).all():  # halves cannot
        raise InvalidFieldsError(
            f"f32 may overflow: user_item of version {question.columns.versions[0]!r} is not "
            "finite in each row; leave that part out",
            "/dtype",
        )


def _float32(vectors: Array) -> F32:
    """Return vectors as float32; finite halves by shifts, a fifth of the time that numpy takes."""
    if vectors.dtype == np.float32:
        return vectors.astype(np.float32, copy=False)
    bits = vectors.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _HALF_BITS
    floats = bits.view(np.float32)
    floats *= _HALF_SCALE
    return floats


def _indexes(parts: tuple[Part, ...]) -> dict[str, str]:
    """Return the names of the vectors that the parts need, and of what points at them."""
    named = {}
    if "user" in parts or "user_item" in parts:
        named["user"] = "user_index"
    if "item" in parts or "user_item" in parts:
        named["item"] = ""
    if "user_category" in parts:
        named["user_category"] = "user_category_index"
    return named
