"""Random rows in batches, each asked in one request, and what must be answered to the bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.acceptance.bundles import Truth
from tests.acceptance.golden.answers import DTYPES
from tests.acceptance.golden.bundles import (
    CATEGORIES,
    ITEMS,
    RECIPES,
    UNKNOWN_IDS,
    USERS,
    Recipe,
    truth_of,
)
from tests.acceptance.reference import U8, expect, rows_of, stored

TOTAL_ROWS = 100_000
MOST_ROWS = 1000
PARTS = ("user", "item", "user_item", "user_category")
FAMILIES = (("all", "some"), ("aligned", "wide"))
"""Bundles of equal widths: with defaults for everything, for some of it, for nothing."""
_BUNDLES = (
    *(recipe for recipe in RECIPES if recipe.name in ("all", "some", "aligned")),
    # So wide that clients ask for distinct vectors, also where users and items are absent.
    Recipe("wide", 64, 24, 6),
)
OVERFLOWS = "all"
"""Products of this bundle's vectors are beyond a half: f16 is refused for them."""
_PARTS_ASKED = (None, None, ("user_category", "user"), ("item", "user_item"), ("user_item",))


@cache
def string_of(number: int) -> str:
    """Return a string that is an id: of one byte, of several, or of 128 that begin alike."""
    if -127 < number <= 0:
        return chr(-number)
    forms = (f"id{number}", f"Käufer {number}", f"😀東京/{number}", f"é{number:_>126}")
    return forms[number % len(forms)]


@dataclass(frozen=True)
class IdType:
    """How the bundles' numbers are written where ids are of some type."""

    prefix: str
    """What the names of such bundles and of their versions begin with."""
    id_of: Callable[[int], Any]

    def version(self, name: str) -> str:
        """Return the name of a version whose ids are of this type."""
        return self.prefix + name


INTEGERS, STRINGS = ID_TYPES = (IdType("", int), IdType("string-", string_of))
BUNDLES = tuple(
    replace(recipe, name=ids.version(recipe.name), id_of=ids.id_of)
    for ids in ID_TYPES
    for recipe in _BUNDLES
)


@dataclass(frozen=True)
class Batch:
    """A question as every path can ask it: one value for all rows, or a list of one a row.

    ``c`` is None where no category is given to any row; ``parts`` where all are asked for. Ids
    and versions are the bundles' before they are written as some type has them.
    """

    n: int
    u: int | list[int]
    i: list[int]
    c: int | list[int | None] | None
    v: str | list[str]
    parts: tuple[str, ...] | None
    dtype: str

    def columns(self, ids: IdType) -> dict[str, Any]:
        """Return u, i, v and perhaps c as a caller gives them."""
        columns = {
            "u": _mapped(self.u, ids.id_of),
            "i": _mapped(self.i, ids.id_of),
            "v": _mapped(self.v, ids.version),
        }
        return columns if self.c is None else {**columns, "c": _mapped(self.c, ids.id_of)}

    def rows(self) -> Iterator[tuple[int, int, int | None, str]]:
        """Yield user, item, category and version of each row."""
        columns = (self.u, self.i, self.c, self.v)
        lists = [c if isinstance(c, list) else [c] * self.n for c in columns]
        yield from zip(*lists, strict=True)

    def options(self) -> dict[str, Any]:
        """Return dtype and perhaps parts."""
        return {"dtype": self.dtype} | ({} if self.parts is None else {"parts": self.parts})

    @cached_property
    def laid(self) -> tuple[npt.NDArray[Any], U8, dict[str, tuple[int, int]]]:
        """What the reference answers: knowledge, status, and where each part lies."""
        rows = list(self.rows())
        truths = [_stored_truth(version) for *_, version in rows]
        told = [expect(truth, *row[:3]) for truth, row in zip(truths, rows, strict=True)]
        knowledge, status = rows_of(told, truths[0])
        spans, columns, start = {}, [], 0
        for part, (first, end) in _whole(truths[0]).items():
            if self.parts is None or part in self.parts:
                spans[part] = (start, start + end - first)
                start += end - first
                columns.append(knowledge[:, first:end])
        asked = np.hstack(columns).astype(np.float16 if self.dtype == "f16" else np.float32)
        return asked, status, spans


@dataclass(frozen=True)
class Answer:
    """What a batch must be answered by, or was."""

    knowledge: npt.NDArray[Any]
    status: U8
    spans: dict[str, tuple[int, int]]
    versions: dict[str, str]


def batches() -> list[Batch]:
    """Return batches of 1 to 1,000 rows, 100,000 together; the same ones on every machine."""
    rng = random.Random("every path")
    drawn = [_draw(rng, n) for n in (1, MOST_ROWS)]
    left = TOTAL_ROWS - sum(batch.n for batch in drawn)
    while left:
        n = min(round(MOST_ROWS ** rng.random()), left)
        drawn.append(_draw(rng, n))
        left -= n
    return drawn


def expected(batch: Batch, ids: IdType, generations: Mapping[str, str]) -> Answer:
    """Return what the reference answers, from these generations."""
    versions = {ids.version(name) for name in ([batch.v] if isinstance(batch.v, str) else batch.v)}
    return Answer(*batch.laid, {version: generations[version] for version in versions})


def check(told: Answer, want: Answer, what: object) -> None:
    """Compare an answer with the one that it must be, bit by bit."""
    assert told.versions == want.versions, what
    assert told.spans == want.spans, what
    assert told.knowledge.dtype == want.knowledge.dtype, what
    assert told.knowledge.shape == want.knowledge.shape, what
    assert told.status.dtype == want.status.dtype, what
    assert told.status.tobytes() == want.status.tobytes(), what
    assert told.knowledge.tobytes() == want.knowledge.tobytes(), what


@cache
def _stored_truth(version: str) -> Truth:
    name, dtype = version.split("-")
    (recipe,) = (recipe for recipe in _BUNDLES if recipe.name == name)
    return stored(truth_of(recipe), dtype)


def _whole(truth: Truth) -> dict[str, tuple[int, int]]:
    d, d_c = truth.dim, truth.category_dim
    ends = (d, 2 * d, 3 * d, 3 * d + d_c)
    return dict(zip(PARTS, zip((0, *ends), ends, strict=False), strict=True))


def _draw(rng: random.Random, n: int) -> Batch:
    dtype, parts = rng.choice(("f32", "f32", "f16")), rng.choice(_PARTS_ASKED)
    names: tuple[str, ...] = rng.choice(FAMILIES)
    if dtype == "f16" and (parts is None or "user_item" in parts):
        names = tuple(name for name in names if name != OVERFLOWS)
    versions = [f"{name}-{kept}" for name in names for kept in DTYPES]
    one_version, one_user = rng.random() < 0.6, rng.random() < 0.4
    categories = rng.choices(CATEGORIES[:20] * 3 + CATEGORIES + UNKNOWN_IDS[:9], k=n)
    return Batch(
        n=n,
        u=_ids(rng, 1, USERS)[0] if one_user else _ids(rng, n, USERS),
        i=_ids(rng, n, ITEMS),
        c=_categories(rng, categories),
        v=rng.choice(versions) if one_version else rng.choices(versions, k=n),
        parts=parts,
        dtype=dtype,
    )


def _ids(rng: random.Random, n: int, known: Sequence[int]) -> list[int]:
    """Return ids of which about one in eight is unknown, some of them more than once."""
    pool = [rng.choice(known if rng.random() < 0.875 else UNKNOWN_IDS) for _ in range(n)]
    return rng.choices(pool, k=n)


def _categories(rng: random.Random, given: list[int]) -> int | list[int | None] | None:
    shape = rng.choice(("missing", "one", "list", "with nulls", "with nulls"))
    if shape == "missing":
        return None
    if shape == "one":
        return given[0]
    return [None if shape == "with nulls" and rng.random() < 0.4 else c for c in given]


def _mapped(values: Any, written: Callable[[Any], Any]) -> Any:
    if isinstance(values, list):
        return [None if value is None else written(value) for value in values]
    return written(values)
