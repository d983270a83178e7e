"""The functions that docs/hot-path.md names exist, in Python and in C."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hot-path.md").read_text()
NAMES = list(dict.fromkeys(re.findall(r"`(gkc(?:\.\w+)+)`", PAGE)))
COMPILED = sorted(set(re.findall(r"`(gkc_\w+)`", PAGE)))


def resolve(name: str) -> object:
    """Import the longest module that a dotted name starts with, and follow the rest."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[end:], module)
    raise AssertionError(f"{name} starts with no module")


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name: str) -> None:
    assert callable(resolve(name))


def test_the_compiled_functions_exist() -> None:
    source = (ROOT / "gkc" / "rows.c").read_text()
    assert "gkc_lay_rows" in COMPILED
    defined = re.findall(r"^\w+ (gkc_\w+)\(", source, flags=re.MULTILINE)
    assert set(COMPILED) <= set(defined)


def test_the_whole_path_is_named() -> None:
    steps = ["decode_json", "resolve", "Plan", "fetch_users", "lay", "encode", "respond"]
    last = [name.rpartition(".")[2] for name in NAMES]
    places = [last.index(step) for step in steps]
    assert places == sorted(places)
    assert len(NAMES) > 15


def test_a_name_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(AttributeError):
        resolve("gkc.answering.answering.Answering.guess")
