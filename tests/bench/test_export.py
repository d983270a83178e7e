"""The floor of an export: the exporter's own batches, in its models alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import export
from bench.export import PAIRS, main, read_inputs, section
from bench.results import Section
from bench.student_bundle import write_student_bundle

USERS, ITEMS = 30, 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "students"
    write_student_bundle(folder, USERS, ITEMS, PAIRS)
    return folder


def test_the_models_get_every_row_once(bundle: Path) -> None:
    rows: dict[str, int] = {}
    for kind, inputs in read_inputs(bundle):
        rows[kind] = rows.get(kind, 0) + len(next(iter(inputs.values())))
    assert rows == {"item": ITEMS, "user": USERS, "user_category": USERS * PAIRS}


def test_an_export_is_as_fast_as_the_models_or_slower() -> None:
    found = section({"models": [2.0, 3.0], "Redis": [4.0, 4.0], "file:": [2.5, 3.0]}, [9, 9])
    to_redis, to_files, peak = found.figures
    assert to_redis.values == [0.5, 0.75]
    assert to_redis.bounds == "≥ 0.6 / ≥ 0.8"
    assert to_files.values == [0.8, 1.0]
    assert peak.values == [1.0]


@pytest.mark.redis
@pytest.mark.slow
def test_small_bundles_are_measured(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERS", "ITEMS", "MEMORY_USERS"):
        monkeypatch.setattr(export, name, 5)
    main(rounds=1, save=True)
    assert all(figure.median > 0 for figure in kept("export").figures)
