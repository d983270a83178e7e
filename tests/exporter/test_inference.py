from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter import inference
from exporter.bundle import load_bundle
from exporter.inference import InferenceError, Model, new_pool
from tests.exporter.bundles import Built, Recipe, Term, build


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with new_pool() as pool:
        yield pool


def item_model(path: Path, pool: ThreadPoolExecutor, **changes: Any) -> tuple[Built, Model]:
    recipe = Recipe(item=[Term("item_id"), Term("price", "float32", 1)], **changes)
    built = build(path, recipe)
    return built, Model(load_bundle(built.path), "item", pool)


def inputs(rows: int) -> dict[str, Any]:
    ids = np.arange(rows, dtype=np.int64)
    return {"item_id": ids, "price": (ids % 7).astype(np.float32)[:, np.newaxis]}


def truth(built: Built, rows: int) -> Any:
    return np.array([built.output("item", {"item_id": k, "price": k % 7}) for k in range(rows)])


@pytest.mark.parametrize("rows", [0, 1, 127, 128, 700])
@pytest.mark.parametrize("batch", ["n", 1, 64])
def test_outputs_do_not_depend_on_how_rows_are_cut_into_batches(
    rows: int, batch: Any, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    built, model = item_model(tmp_path / "b", pool, batch=batch)
    found = model.run(inputs(rows))
    assert found.dtype == np.float32
    assert found.shape == (rows, 8)
    if rows:
        assert np.allclose(found, truth(built, rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", inference._BATCH_SIZES)
def test_every_batch_size_that_may_be_found_fastest_gives_the_same(
    size: int, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, model = item_model(tmp_path / "b", pool)
    monkeypatch.setattr(inference, "_BATCH_SIZES", (size,))
    found = model.run(inputs(2100))
    assert np.allclose(found, truth(built, 2100), rtol=1e-5, atol=1e-6)


def test_what_a_model_takes_is_read_from_it(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    recipe = Recipe(
        user=[
            Term("user_id", "int32", name="u"),
            Term("history", "int64", 9, is_list=True),
            Term("user_id", "float64", 1, name="f"),
        ]
    )
    model = Model(load_bundle(build(tmp_path / "b", recipe).path), "user", pool)
    found = {i.name: (i.column, i.dtype.name, i.rank, i.width) for i in model.inputs}
    assert found == {
        "u": ("user_id", "int32", 1, None),
        "history": ("history", "int64", 2, 9),
        "f": ("user_id", "float64", 2, 1),
    }


def test_the_first_row_of_the_batch_is_named_where_no_one_row_is_to_blame(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    _, model = item_model(tmp_path / "b", pool)
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
    with ThreadPoolExecutor(2) as pool:
        model = Watching(load_bundle(built.path), "item", pool)
        model.run(inputs(128))
    assert len(threads) == 2
