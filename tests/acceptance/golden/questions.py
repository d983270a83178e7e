"""Ten thousand questions, the same ones on every machine."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.acceptance.golden.bundles import CATEGORIES, ITEMS, TABLES, UNKNOWN_IDS, USERS

Form = Literal["columns", "quadruples", "safetensors"]
Media = Literal["json", "safetensors"]
FORMS: tuple[Form, ...] = ("columns", "quadruples", "safetensors")

COUNT = 10_000
FAMILIES = (("all", "some", "none"), ("aligned",), ("some", "none"))
"""Versions of equal widths; products overflow halves in ``all`` alone."""
ROWS = {0: 3, 1: 30, 2: 10, 7: 10, 8: 10, 9: 10, 16: 8, 17: 8, 50: 8, 500: 3}
"""How often a question has so many rows."""
MANY_ROWS = {1234: 4500, 3456: 4500, 5678: 4500, 7890: 10_000, 9012: 10_001}
"""Which question has so many rows; the last ones are the most that is allowed, and one more."""
FAULT_EVERY = 20
MIXED_FROM = 9000
"""From here on stored types are mixed; before, a fault of one type shows in its groups alone."""


@dataclass(frozen=True)
class Question:
    """One request, before it is encoded.

    ``v`` names bundles: ``{}`` in a name stands for the stored type that is asked about.
    """

    columns: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    form: Form = "columns"
    accept: Media = "json"


def questions() -> list[Question]:
    """Return all questions, each of a generator of its own."""
    return [_question(random.Random(k), k) for k in range(COUNT)]


def single_rows(count: int) -> list[Question]:
    """Return questions of one row as ``gkc get`` can ask them."""
    rng = random.Random("single")
    return [
        Question(
            {
                "u": rng.choice(USERS + UNKNOWN_IDS * 9),
                "i": rng.choice(ITEMS + UNKNOWN_IDS * 9),
                "c": rng.choice((None, rng.choice(CATEGORIES))),
                "v": f"{rng.choice(FAMILIES[k % 2])}-{{}}",
            }
        )
        for k in range(count)
    ]


def fingerprint() -> str:
    """Return a digest of all ids and questions, which tells other ones from other answers."""
    return hashlib.sha256(repr((TABLES, questions())).encode()).hexdigest()


def _question(rng: random.Random, k: int) -> Question:
    n = MANY_ROWS.get(k) or rng.choices(tuple(ROWS), tuple(ROWS.values()))[0]
    if k % FAULT_EVERY == 0:
        return _faulty(rng, k // FAULT_EVERY)
    form = rng.choices(FORMS, (5, 2, 3))[0]
    users, items = _ids(rng, max(n, 1), USERS), _ids(rng, n, ITEMS)
    categories = _categories(rng, n)
    versions = _versions(rng, n, ("{}",) if k < MIXED_FROM else ("f16", "f32", "int8"))
    columns: dict[str, Any] = {
        "u": _shaped(rng, users, (3, 1, 2)),
        "i": _shaped(rng, items, (1, 1, 1)) if n == 1 and form != "quadruples" else items,
        "v": versions,
    }
    if form == "quadruples":
        columns["c"] = _with_nulls(rng, categories)
    elif rng.random() < 0.65:
        columns["c"] = _shaped(rng, categories, (1, 1, 4))
        if form == "columns" and rng.random() < 0.5:
            columns["c"] = rng.choice((None, _with_nulls(rng, categories)))
    options = _options(rng, versions)
    return Question(columns, options, form, _accept(rng, options))


def _ids(rng: random.Random, n: int, known: Sequence[int]) -> list[int]:
    """Return known and unknown ids, many of them more than once where they are few."""
    pool = rng.choices(known, k=rng.choice((1, 3, max(n, 1))))
    return rng.choices(pool + rng.choices(UNKNOWN_IDS, k=rng.randrange(3)), k=n)


def _categories(rng: random.Random, n: int) -> list[int]:
    """Return categories, more often those that most users have."""
    pool = (*rng.choices(CATEGORIES[:20], k=20), *rng.choices(CATEGORIES + UNKNOWN_IDS, k=5))
    return rng.choices(pool, k=n)


def _versions(rng: random.Random, n: int, dtypes: Sequence[str]) -> str | list[str]:
    """Return one version, or one for each row."""
    names = [f"{name}-{dtype}" for name in rng.choice(FAMILIES) for dtype in dtypes]
    shape = rng.choices(("scalar", "same", "by row"), (7, 1, 2))[0]
    if shape == "by row":
        return rng.choices(names, k=n)
    name = rng.choice(names)
    return name if shape == "scalar" else [name] * rng.choice((1, n))


def _shaped(rng: random.Random, ids: list[int], weights: tuple[int, int, int]) -> int | list[int]:
    """Return a scalar, a list of one or the list, by these weights."""
    shape = rng.choices(("scalar", "one", "list"), weights)[0]
    if shape == "list" or not ids:
        return ids
    return ids[0] if shape == "scalar" else ids[:1]


def _with_nulls(rng: random.Random, categories: list[int]) -> list[int | None]:
    return [None if rng.random() < 0.4 else category for category in categories]


def _options(rng: random.Random, versions: str | list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if rng.random() < 0.4:
        parts = ["user", "item", "user_item", "user_category"]
        options["parts"] = rng.sample(parts, rng.randint(1, 4))
    if rng.random() < 0.5:
        options["dtype"] = rng.choice(("f16", "f16", "f32"))
    if rng.random() < 0.3:
        is_one_version = isinstance(versions, str) or len(set(versions)) == 1
        options["layout"] = rng.choice(("factored", "rows")) if is_one_version else "rows"
    return options


def _accept(rng: random.Random, options: dict[str, Any]) -> Media:
    is_factored = options.get("layout") == "factored"
    return "safetensors" if is_factored or rng.random() < 0.5 else "json"


def _faulty(rng: random.Random, k: int) -> Question:
    """Return a question that is refused, or, of ``f16``, is refused where it might overflow."""
    good = {"u": rng.choice(USERS), "i": _ids(rng, 7, ITEMS), "v": "some-{}"}
    row = rng.randrange(7)

    def with_id(value: object) -> dict[str, Any]:
        return {**good, "i": [*good["i"][:row], value, *good["i"][row + 1 :]]}

    faults = (
        Question({**good, "v": "all-{}"}, {"dtype": "f16"}),
        Question({**good, "v": ["all-{}", *["aligned-{}"] * 6]}),
        Question({**good, "v": "no-such-version"}),
        Question({**good, "v": [*["some-{}"] * 6, "no-such-version"]}, form="quadruples"),
        Question({**good, "u": [1, 2]}),
        Question(with_id(1.5)),
        Question(with_id(rng.choice((2**63, -(2**63) - 1)))),
        Question(with_id(True), form="quadruples"),
        Question({**good, "v": 20211220}),
        Question({**good, "c": [None, "x"]}),
        Question({name: good[name] for name in ("u", "v")}),
        Question(good, {"page": 1}),
        Question(good, {"quadruples": []}),
        Question(good, {"parts": ["user", "price"]}),
        Question(good, {"dtype": "f64"}),
        Question(good, {"layout": "factored"}),
        Question({**good, "v": "all-{}"}, {"dtype": "f16"}, "safetensors", "safetensors"),
    )
    return faults[k % len(faults)]
