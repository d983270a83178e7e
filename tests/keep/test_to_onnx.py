"""ONNX against torch: the largest difference, and that it would be noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from keep.compatibility import LinearMap
from keep.layers import TableSizes
from keep.models import Models
from keep.to_onnx import INPUTS, OUTPUT, export_onnx, largest_difference, serving_models
from tests.keep.tiny import CONFIG

SIZES = TableSizes(users=9, items=8, shops=4, categories=5)


@pytest.fixture
def models() -> Models:
    return Models(SIZES, CONFIG)


def rows(name: str, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(count)
    columns = {column: rng.integers(1, 4, count) for column in INPUTS[name]}
    if "behaviour_items" in columns:
        columns["behaviour_items"] = rng.integers(0, 8, (count, CONFIG.behaviours))
    return columns


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_any_number_of_rows_equals_torch(models: Models, tmp_path: Path, name: str) -> None:
    model, file = serving_models(models)[name], tmp_path / "model.onnx"
    export_onnx(name, model, CONFIG.behaviours, file)
    for count in (0, 1, 2, 33):
        assert largest_difference(name, model, file, rows(name, count)) <= 1e-5


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_a_map_is_the_last_layer(models: Models, tmp_path: Path, name: str) -> None:
    rng, width = np.random.default_rng(0), 24
    weight = rng.normal(size=(width, width)).astype(np.float32)
    one = LinearMap(weight, rng.normal(size=width).astype(np.float32))
    plain = serving_models(models)[name]
    mapped = serving_models(models, dict.fromkeys(INPUTS, one))[name]
    file, columns = tmp_path / "model.onnx", rows(name, 33)
    export_onnx(name, mapped, CONFIG.behaviours, file)
    assert largest_difference(name, mapped, file, columns) <= 1e-5

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (computed,) = session.run([OUTPUT], columns)
    with torch.inference_mode():
        vectors = plain(*(torch.from_numpy(columns[column]) for column in INPUTS[name])).numpy()
    np.testing.assert_allclose(computed, vectors @ weight.T + one.bias, atol=1e-5)


def test_another_model_is_noticed(models: Models, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx("item", serving_models(models)["item"], CONFIG.behaviours, file)
    other = serving_models(Models(SIZES, replace(CONFIG, seed=2)))["item"]
    assert largest_difference("item", other, file, rows("item", 9)) > 1e-3


def test_the_number_of_behaviours_is_fixed_and_the_items_tables_are_inside(
    models: Models, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    model = serving_models(models)["user_category"]
    export_onnx("user_category", model, CONFIG.behaviours, file)
    graph = onnx.load(file).graph
    shapes = {
        entry.name: [dim.dim_value or dim.dim_param for dim in entry.type.tensor_type.shape.dim]
        for entry in graph.input
    }
    assert shapes == {"user_row": ["n"], "behaviour_items": ["n", 5], "category_row": ["n"]}
