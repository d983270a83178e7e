from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.bundle import load_bundle
from exporter.errors import BundleError
from exporter.feeds import Feed, unknown_inputs
from exporter.inputs import prepare
from tests.exporter.bundles import Recipe, Term, build

HISTORY = Term("history", width="T", is_list=True)


def ignore(_: int) -> None:
    """What nobody is to be told of the progress."""


def feeds_of(path: Path, recipe: Recipe, kind: Any) -> list[Feed]:
    with prepare(load_bundle(build(path, recipe).path), 1000, ignore) as prepared:
        return prepared.feeds[kind]


@pytest.mark.parametrize(
    ("width", "pad", "expected"), [(4, {"history": 2}, 4), ("T", {"history": 2}, 2), ("T", {}, 5)]
)
def test_the_model_decides_a_list_s_width_then_pad_then_the_longest_list(
    width: Any, pad: dict[str, int], expected: int, tmp_path: Path
) -> None:
    recipe = Recipe(user=[Term("history", width=width, is_list=True)], pad=pad)
    feeds = feeds_of(tmp_path / "b", recipe, "user")
    inputs = unknown_inputs(feeds, {"history": [7]})
    assert inputs["history"].tolist() == [[7] + [0] * (expected - 1)]


def test_pairs_come_before_users_as_the_source_of_a_column(tmp_path: Path) -> None:
    feeds = feeds_of(tmp_path / "b", Recipe(), "user_category")
    assert {f.input.name: f.sources[0].table for f in feeds} == {
        "user_id": "user_categories",
        "history": "users",
        "category_id": "user_categories",
    }


def test_null_stands_for_an_empty_list_or_for_zero(tmp_path: Path) -> None:
    feeds = feeds_of(tmp_path / "b", Recipe(user=[Term("user_id"), HISTORY]), "user")
    inputs = unknown_inputs(feeds, {"user_id": None, "history": None})
    assert inputs["user_id"].tolist() == [0]
    assert inputs["history"].tolist() == [[0] * 5]


def test_values_take_the_input_s_type_and_rank(tmp_path: Path) -> None:
    recipe = Recipe(item=[Term("item_id", "int32", 1), Term("price", "float16")])
    feeds = feeds_of(tmp_path / "b", _small_ids(recipe), "item")
    inputs = unknown_inputs(feeds, {"item_id": 3, "price": 0.5})
    assert (inputs["item_id"].dtype, inputs["item_id"].tolist()) == (np.dtype("int32"), [[3]])
    assert (inputs["price"].dtype, inputs["price"].tolist()) == (np.dtype("float16"), [0.5])


def test_an_integer_beyond_64_bits_fits_a_float(tmp_path: Path) -> None:
    feeds = feeds_of(tmp_path / "b", Recipe(item=[Term("price", "float32")]), "item")
    assert unknown_inputs(feeds, {"price": 2**70})["price"].tolist() == [2.0**70]


@pytest.mark.parametrize("value", [2**31, 1.5, 2**70, 10**400])
def test_a_value_that_does_not_fit_is_refused(value: float, tmp_path: Path) -> None:
    recipe = Recipe(item=[Term("item_id", "int32")])
    feeds = feeds_of(tmp_path / "b", _small_ids(recipe), "item")
    with pytest.raises(BundleError, match=r"which does not fit input 'item_id' of item\.onnx"):
        unknown_inputs(feeds, {"item_id": value})


def _small_ids(recipe: Recipe) -> Recipe:
    recipe.items = {"item_id": [1, 2], "category_id": [1, 1], "price": [1.0, 2.0]}
    return recipe
