"""Bundles: the contract's files, tables that fit the models, ONNX equal to torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch

from keep import bundle as bundle_module
from keep.bundle import BundleError, bundle, make_tables, pair_rows
from keep.checkpoint import Pretraining
from keep.config import PretrainConfig
from keep.features import UNKNOWN
from keep.log import Log
from tests.keep.tiny import CONFIG


def run(bundled: Path, name: str, columns: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(str(bundled / f"{name}.onnx"))
    return session.run(["knowledge"], columns)[0]


def padded(lists: list[list[int]], width: int) -> np.ndarray:
    """Pad on the right, as the exporter does."""
    return np.array([items + [0] * (width - len(items)) for items in lists], dtype=np.int64)


def test_manifest_names_every_file_with_its_checksum(bundled: Path, state: Pretraining) -> None:
    manifest = json.loads((bundled / "manifest.json").read_text())
    assert manifest["format"] == "gkc-bundle/1"
    assert (manifest["dim"], manifest["category_dim"]) == (CONFIG.dim, CONFIG.category_dim)
    assert manifest["vector_space"] == state.vector_space
    assert manifest["tasks"] == [
        {"name": name, "dim": 8} for name in ("click", "conversion", "cart")
    ]
    files = {file.name for file in bundled.iterdir()} - {"manifest.json"}
    assert set(manifest["sha256"]) == files
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest
    assert {model["file"] for model in manifest["models"].values()} <= files
    assert set(manifest["tables"].values()) <= files


def test_the_model_card_is_one_of_the_files_with_a_checksum(bundled: Path) -> None:
    assert "model_card.md" in json.loads((bundled / "manifest.json").read_text())["sha256"]
    assert (bundled / "model_card.md").read_text().startswith("# tiny-day3\n")


def test_models_run_on_their_tables_columns_and_equal_torch(
    bundled: Path, state: Pretraining
) -> None:
    manifest = json.loads((bundled / "manifest.json").read_text())
    users = pq.read_table(bundled / "users.parquet").to_pydict()
    items = pq.read_table(bundled / "items.parquet").to_pydict()
    pairs = pq.read_table(bundled / "user_categories.parquet").to_pydict()
    width = manifest["pad"]["behaviour_items"]
    behaviours = padded(users["behaviour_items"], width)
    rows = np.array(users["user_row"])
    with torch.inference_mode():
        expected = state.models.two_tower.user_knowledge(
            torch.from_numpy(rows), torch.from_numpy(behaviours)
        )
    found = run(bundled, "user", {"user_row": rows, "behaviour_items": behaviours})
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert found.shape == (len(rows), manifest["dim"])

    names = ("item_row", "shop_row", "category_row")
    columns = {name: np.array(items[name]) for name in names}
    triples = np.stack([columns[name] for name in names], axis=1)
    with torch.inference_mode():
        expected = state.models.two_tower.item_knowledge(torch.from_numpy(triples))
    np.testing.assert_allclose(run(bundled, "item", columns), expected.numpy(), atol=1e-5)

    owner = {user: line for line, user in enumerate(users["user_id"])}
    lines = np.array([owner[user] for user in pairs["user_id"]])
    category = np.array(pairs["category_row"])
    with torch.inference_mode():
        expected = state.models.category.knowledge(
            torch.from_numpy(rows[lines]),
            torch.from_numpy(behaviours[lines]),
            torch.from_numpy(category),
        )
    inputs = {
        "user_row": rows[lines],
        "behaviour_items": behaviours[lines],
        "category_row": category,
    }
    found = run(bundled, "user_category", inputs)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert found.shape == (len(lines), manifest["category_dim"])


def test_one_row_and_the_unknown_rows_work_too(bundled: Path) -> None:
    unknown = json.loads((bundled / "manifest.json").read_text())["unknown"]
    for name, row in unknown.items():
        columns = {
            column: np.zeros((1, 5), dtype=np.int64) if value == [] else np.array([value])
            for column, value in row.items()
        }
        assert np.isfinite(run(bundled, name, columns)).all()
        assert {value for value in row.values() if value != []} == {UNKNOWN}


def test_tables_carry_raw_ids_and_behaviours_up_to_the_checkpoint_s_day(
    bundled: Path, log: Log
) -> None:
    users = pq.read_table(bundled / "users.parquet").to_pydict()
    items = pq.read_table(bundled / "items.parquet").to_pydict()
    item_of = dict(zip(items["item_row"], items["item_id"], strict=True))
    clicks: dict[int, list[int]] = {}
    for number in (1, 2, 3):
        day = log.day(number)
        for row in np.flatnonzero(day.click):
            clicks.setdefault(int(day.user[row]), []).append(int(day.item[row]))
    for user, behaviours in zip(users["user_id"], users["behaviour_items"], strict=True):
        assert [item_of[row] for row in behaviours] == clicks.get(user, [])[-5:]
    days = [log.day(number) for number in (1, 2, 3)]
    category = {int(i): int(c) for day in days for i, c in zip(day.item, day.category, strict=True)}
    assert dict(zip(items["item_id"], items["category_id"], strict=True)) == category
    assert set(users["user_id"]) == {int(user) for day in days for user in day.user}


def test_pairs_are_each_user_s_behaviour_categories_and_the_most_shown(
    state: Pretraining,
) -> None:
    features = state.features
    users, categories = pair_rows(features, 2)
    most = set((np.argsort(-features.shown[2:], kind="stable")[:2] + 2).tolist())
    expected = [
        (user, category)
        for user in range(2, len(features.users))
        for category in sorted(
            most | {int(features.item_category[i]) for i in features.history[user] if i}
        )
    ]
    assert list(zip(users.tolist(), categories.tolist(), strict=True)) == expected


def test_coverage_counts_test_impressions_whose_ids_are_exported(
    state: Pretraining, log: Log
) -> None:
    tables = make_tables(state.features, 20)
    text = bundle_module.coverage(tables, log)
    test = log.day(5)
    known = np.isin(test.item[test.sub_domain], tables.items["item_id"].to_numpy()).mean()
    assert known < 1
    assert f"items {known:.2%}" in text
    assert f"the {test.sub_domain.sum():,} test impressions" in text


def test_an_existing_directory_is_not_overwritten(
    state: Pretraining, log: Log, bundled: Path
) -> None:
    with pytest.raises(BundleError, match="is there already"):
        bundle(state, log, bundled)


def test_a_difference_from_torch_leaves_no_bundle(
    state: Pretraining, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="ONNX differs from torch"):
        bundle(state, log, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_default_widths_are_the_contract_s() -> None:
    assert (PretrainConfig().dim, PretrainConfig().category_dim) == (192, 192)
