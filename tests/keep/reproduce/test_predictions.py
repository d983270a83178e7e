"""Predictions on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keep.reproduce.predictions import (
    PredictionsError,
    prediction_path,
    read_predictions,
    slug,
    write_predictions,
)

USER, ITEM = np.array([5, 5, 2], dtype=np.int64), np.array([9, 8, 9], dtype=np.int64)
LABEL, SCORE = np.array([True, False, True]), np.array([0.25, -1.0, 3.5], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("KEEP (1 month)", "keep-1-month"), (">300", "300"), ("K_u, K_i", "k-u-k-i")],
)
def test_a_rows_directory_is_made_from_its_name(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_name_without_letters_names_no_directory() -> None:
    with pytest.raises(ValueError, match="neither a letter nor a digit"):
        slug("±")


def test_predictions_come_back_as_the_contract_names_them(tmp_path: Path) -> None:
    path = prediction_path(tmp_path, "2", "KEEP-C", 7)
    assert path == tmp_path / "predictions" / "2" / "keep-c" / "7.parquet"
    write_predictions(path, USER, ITEM, LABEL, SCORE.astype(np.float64))
    table = pq.read_table(path, partitioning=None)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("user", "int64"),
        ("item", "int64"),
        ("label", "bool"),
        ("score", "float"),
    ]
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    found = read_predictions(path)
    for column, expected in (
        (found.user, USER),
        (found.item, ITEM),
        (found.label, LABEL),
        (found.score, SCORE),
    ):
        assert column.dtype == expected.dtype
        np.testing.assert_array_equal(column, expected)


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    write_predictions(path, USER, ITEM, LABEL, SCORE)
    before = path.read_bytes()
    with pytest.raises(pa.ArrowInvalid):
        write_predictions(path, USER, ITEM[:2], LABEL, SCORE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nan_scores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN"):
        write_predictions(tmp_path / "1.parquet", USER, ITEM, LABEL, SCORE * np.nan)


def test_a_missing_a_broken_and_a_foreign_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match="is missing"):
        read_predictions(tmp_path / "1.parquet")
    broken = tmp_path / "2.parquet"
    broken.write_bytes(b"PAR1 but short")
    with pytest.raises(PredictionsError, match="cannot be read"):
        read_predictions(broken)
    foreign = tmp_path / "3.parquet"
    pq.write_table(pa.table({"user": [1]}), foreign)
    with pytest.raises(PredictionsError, match="has the columns user int64"):
        read_predictions(foreign)
