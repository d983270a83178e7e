"""Rows with their knowledge as torch reads them, in one process and in several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gkc.errors import CommandError, TableFileError, VersionNotFoundError
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, worlds_of, write
from tests.gkc.world import Worlds

torch = pytest.importorskip("torch", reason="installed with TORCH=none")
from torch.utils.data import DataLoader  # noqa: E402 - after the line above

from gkc.offline import JoinedRows  # noqa: E402

TABLE = draw(430, versions=EQUALLY_WIDE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two files, of five row groups together."""
    write(TABLE.slice(0, 230), tmp_path / "in" / "a.parquet")
    write(TABLE.slice(230), tmp_path / "in" / "b.parquet")
    return tmp_path / "in"


def rows(batches: list[dict[str, Any]]) -> dict[float, tuple[bytes, list[int]]]:
    """Return knowledge and statuses by label, which no two rows have in common."""
    return {
        label: (knowledge.numpy().tobytes(), status.tolist())
        for batch in batches
        for label, knowledge, status in zip(
            batch["label"].tolist(), batch["knowledge"], batch["status"], strict=True
        )
    }


def by_label(worlds: Worlds, dtype: str) -> dict[float, tuple[bytes, list[int]]]:
    told = zip(*expected(TABLE, worlds_of(TABLE, worlds), dtype), strict=True)
    return dict(zip(TABLE["label"].to_pylist(), told, strict=True))


def test_batches_in_order(worlds: Worlds, folder: Path) -> None:
    dataset = JoinedRows(
        folder, store=worlds.url, version_column="version", dtype="f16", batch_rows=64
    )
    for batches in (list(dataset), list(dataset)):  # epochs
        assert [len(batch["label"]) for batch in batches] == [64, 36, 64, 36, 30, 64, 36, 64, 36]
        assert rows(batches) == by_label(worlds, "f16")
        labels = torch.cat([batch["label"] for batch in batches]).tolist()
        assert labels == TABLE["label"].to_pylist()
    first = next(iter(dataset))
    assert first["knowledge"].dtype == torch.float16
    assert first["user_id"].dtype == torch.int64
    assert first["category_id"] == TABLE["category_id"].to_pylist()[:64]  # some are null
    assert first["shown"] == TABLE["shown"].to_pylist()[:64]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_share_the_rows_out(worlds: Worlds, folder: Path, start: str) -> None:
    dataset = JoinedRows(folder, store=worlds.url, version_column="version")
    loader = DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=start, pin_memory=False
    )
    batches = list(loader)
    assert sum(len(batch["label"]) for batch in batches) == TABLE.num_rows
    assert rows(batches) == by_label(worlds, "f32")


def test_some_columns(worlds: Worlds, folder: Path) -> None:
    options: Any = {"store": worlds.url, "version": "half", "prefix": "k_", "parts": ("user",)}
    first = next(iter(JoinedRows(folder / "a.parquet", columns=["label"], **options)))
    assert list(first) == ["label", "k_knowledge", "k_status"]
    assert first["k_knowledge"].shape == (100, 4)


def test_what_cannot_be_asked(worlds: Worlds, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError):
        JoinedRows(folder, store=worlds.url)
    with pytest.raises(VersionNotFoundError):
        JoinedRows(folder, store=worlds.url, version="none")
    with pytest.raises(TableFileError, match="there is no such file"):
        JoinedRows(tmp_path / "nothing", store=worlds.url, version="half")
    with pytest.raises(TableFileError, match="no column 'nothing'"):
        JoinedRows(folder, store=worlds.url, version="half", columns=["nothing"])
    places = TABLE.slice(0, 120).to_pylist()
    places[110]["user_id"] = None
    path = write(type(TABLE).from_pylist(places), tmp_path / "c")
    with pytest.raises(TableFileError, match=r"/c, column 'user_id', row 110"):
        list(JoinedRows(path, store=worlds.url, version="half"))
