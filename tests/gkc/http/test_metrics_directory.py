"""Folders of metrics: made, in use, left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from gkc.errors import CommandError
from gkc.http.metrics_directory import metrics_directory


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_only_folders_that_nobody_uses_are_removed(scratch: Path) -> None:
    forsaken = Path(tempfile.mkdtemp(prefix="gkc-metrics-held-"))
    (forsaken / "counter_1.db").write_bytes(b"x")
    earlier = Path(tempfile.mkdtemp(prefix="gkc-metrics-"))
    (scratch / "gkc-metrics-held-file").touch()
    (scratch / "gkc-metrics-held-link").symlink_to(earlier)
    with metrics_directory() as first, metrics_directory() as second:
        assert first.is_dir()
        assert second.is_dir()
        assert not forsaken.exists()
        assert earlier.exists()
        (first / "counter_1.db").touch()
    assert not first.exists()
    assert not second.exists()


def test_no_place_for_it_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(CommandError, match="in TMPDIR"), metrics_directory():
        pass
