"""The functions that the export path of docs/structure.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_hot_path import resolve

PAGE = (Path(__file__).parents[2] / "docs" / "structure.md").read_text()
SECTION = PAGE.partition("## The export path")[2].partition("\n## ")[0]
NAMES = list(dict.fromkeys(re.findall(r"`((?:gkc|exporter)(?:\.\w+)+)`", SECTION)))


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name: str) -> None:
    assert callable(resolve(name))


def test_the_whole_path_is_named() -> None:
    steps = ["batches", "hash_tables", "item_batches", "infer", "write_items", "seal", "publish"]
    last = [name.rpartition(".")[2] for name in NAMES]
    places = [last.index(step) for step in steps]
    assert places == sorted(places)
