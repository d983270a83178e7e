"""docs/structure.md: the functions of its export path exist, its layers are those that hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.test_hot_path import resolve

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "structure.md").read_text()
SECTION = PAGE.partition("## The export path")[2].partition("\n## ")[0]
NAMES = list(dict.fromkeys(re.findall(r"`((?:gkc|exporter)(?:\.\w+)+)`", SECTION)))


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name: str) -> None:
    assert callable(resolve(name))


def test_the_whole_path_is_named() -> None:
    steps = ["check_export", "load_bundle", "check_digests", "prepare", "batches"]
    steps += ["partition_tables", "default_vectors", "stage", "item_batches", "infer"]
    steps += ["write_items", "seal", "publish"]
    last = [name.rpartition(".")[2] for name in NAMES]
    places = [last.index(step) for step in steps]
    assert places == sorted(places)


def test_the_layers_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = {one["containers"][0]: one["layers"] for one in contracts if one["type"] == "layers"}
    layers["keep"] = layers["keep"][:4]  # the page says nothing of the order of the rest
    for package, names in layers.items():
        assert f"- `{package}/`: `{' > '.join(names)}`" in PAGE
