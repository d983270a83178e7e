from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import models
from exporter.bundle import load_bundle
from exporter.manifest import TABLE_OF, ModelKind
from exporter.models import Model
from exporter.sessions import InferenceError, Sessions
from exporter.tables import FeatureTable
from tests.exporter.bundles import Built, Recipe, Term, build


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    with Sessions() as sessions:
        yield sessions


def item_model(path: Path, sessions: Sessions, **changes: Any) -> tuple[Built, Model]:
    recipe = Recipe(item=[Term("item_id"), Term("price", "float32", 1)], **changes)
    built = build(path, recipe)
    return built, load(Model, built, "item", sessions)


def load(model: type[Model], built: Built, kind: ModelKind, sessions: Sessions) -> Model:
    bundle = load_bundle(built.path)
    return model(bundle, kind, FeatureTable(bundle, TABLE_OF[kind]), sessions)


def inputs(rows: int) -> dict[str, Any]:
    ids = np.arange(rows, dtype=np.int64)
    return {"item_id": ids, "price": (ids % 7).astype(np.float32)[:, np.newaxis]}


def truth(built: Built, rows: int) -> Any:
    return np.array([built.output("item", {"item_id": k, "price": k % 7}) for k in range(rows)])


@pytest.mark.parametrize("rows", [0, 1, 127, 128, 700])
@pytest.mark.parametrize("batch", ["n", 1, 64])
def test_outputs_do_not_depend_on_how_rows_are_cut_into_batches(
    rows: int, batch: Any, tmp_path: Path, sessions: Sessions
) -> None:
    built, model = item_model(tmp_path / "b", sessions, batch=batch)
    found = model.run(inputs(rows))
    assert found.dtype == np.float32
    assert found.shape == (rows, 8)
    if rows:
        assert np.allclose(found, truth(built, rows), rtol=1e-5, atol=1e-6)


def test_a_row_alone_has_the_bits_that_it_has_among_others(
    tmp_path: Path, sessions: Sessions
) -> None:
    built = build(tmp_path / "b", Recipe(item=[Term("price", "float32", 1)]))
    save_pooling_model(built.path / "item.onnx")
    model = load(Model, built, "item", sessions)
    prices = np.random.default_rng(5).standard_normal((40, 1)).astype(np.float32)
    together = model.run({"price": prices})
    alone = [model.run({"price": prices[k : k + 1]}) for k in range(len(prices))]
    np.testing.assert_array_equal(np.concatenate(alone), together)


def save_pooling_model(path: Path) -> None:
    """Write a model that sums 50 vectors, in an order that depends on how many rows there are."""
    spread = np.random.default_rng(6).standard_normal((1, 50 * 8)).astype(np.float32)
    weights = [
        numpy_helper.from_array(spread, "spread"),
        numpy_helper.from_array(np.array([-1, 50, 8]), "shape"),
        numpy_helper.from_array(np.array([1]), "axes"),
    ]
    nodes = [
        helper.make_node("MatMul", ["price", "spread"], ["wide"]),
        helper.make_node("Reshape", ["wide", "shape"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axes"], ["knowledge"], keepdims=0),
    ]
    price, knowledge = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("price", 1), ("knowledge", 8))
    )
    graph = helper.make_graph(nodes, "item", [price], [knowledge], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


@pytest.mark.parametrize("size", models._BATCH_SIZES)
def test_every_batch_size_that_may_be_found_fastest_gives_the_same(
    size: int, tmp_path: Path, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, model = item_model(tmp_path / "b", sessions)
    monkeypatch.setattr(models, "_BATCH_SIZES", (size,))
    found = model.run(inputs(2100))
    assert np.allclose(found, truth(built, 2100), rtol=1e-5, atol=1e-6)


def test_what_a_model_takes_is_read_from_it(tmp_path: Path, sessions: Sessions) -> None:
    recipe = Recipe(
        user=[
            Term("user_id", "int32", name="u"),
            Term("history", "int64", 9, is_list=True),
            Term("user_id", "float64", 1, name="f"),
            Term("city", "str", 2, name="s", beside=("town",)),
        ]
    )
    model = load(Model, build(tmp_path / "b", recipe), "user", sessions)
    found = {i.name: (*i.columns, i.dtype.name, i.rank, i.width) for i in model.inputs}
    assert found == {
        "u": ("user_id", "int32", 1, None),
        "history": ("history", "int64", 2, 9),
        "f": ("user_id", "float64", 2, 1),
        "s": ("city", "town", "object", 2, 2),
    }


def test_the_first_row_of_the_batch_is_named_where_no_one_row_is_to_blame(
    tmp_path: Path, sessions: Sessions
) -> None:
    _, model = item_model(tmp_path / "b", sessions)
    wrong: dict[str, Any] = {"item_id": np.arange(5), "price": np.zeros((5, 2), np.float32)}
    with pytest.raises(InferenceError) as caught:
        model.run(wrong)
    assert caught.value.row in (None, 0)


def test_batches_run_side_by_side_in_the_pool(tmp_path: Path) -> None:
    threads = set()
    barrier = threading.Barrier(2, timeout=20)

    class Watching(Model):
        def _run_piece(self, piece: Any) -> Any:
            if len(piece["item_id"]) == 64:
                threads.add(threading.current_thread().name)
                barrier.wait()
            return super()._run_piece(piece)

    built = build(
        tmp_path / "b", Recipe(item=[Term("item_id"), Term("price", "float32", 1)], batch=64)
    )
    with Sessions(2) as sessions:
        model = load(Watching, built, "item", sessions)
        model.run(inputs(128))
    assert len(threads) == 2
