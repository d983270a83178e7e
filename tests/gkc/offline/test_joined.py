"""What joined rows came from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gkc.errors import TableFileError
from gkc.offline.form import KnowledgeForm
from gkc.offline.join import Join
from gkc.offline.joined import Source, read_sources
from gkc.offline.joiner import JoinOptions
from gkc.offline.snapshot import StoreAddress
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, write
from tests.gkc.world import Worlds, make_world


def join(url: str, source: Path, target: Path, version: str | None = None) -> None:
    column = "version" if version is None else None
    options = JoinOptions(source, target, StoreAddress(url), version, column, KnowledgeForm())
    Join(options).run(lambda _: None)


def test_all_versions_of_all_files(worlds: Worlds, tmp_path: Path) -> None:
    for name in ("half", "full"):
        write(draw(5, versions=(name,)), tmp_path / "in" / name)
    join(worlds.url, tmp_path / "in", tmp_path / "out")
    found = read_sources(tmp_path / "out")
    assert set(found) == {"half", "full"}
    root = Path(worlds.url.removeprefix("file:"))
    for version, source in found.items():
        generation = worlds[version].generation
        (manifest,) = root.rglob(f"{generation}/manifest.json")
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        assert source == Source(generation, None, f"sha256:{digest}")
    assert read_sources(tmp_path / "out" / "half") == {"half": found["half"]}


def test_files_that_do_not_fit(url: str, worlds: Worlds, tmp_path: Path) -> None:
    write(draw(5), tmp_path / "in")
    with pytest.raises(TableFileError, match="/in: tells of no generation"):
        read_sources(tmp_path / "in")
    for seed in (1, 2):
        make_world("v1", seed).publish(url)
        join(url, tmp_path / "in", tmp_path / "out" / str(seed), "v1")
    with pytest.raises(TableFileError, match=r"/out/2: came from .* of version 'v1', other files"):
        read_sources(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableFileError, match="has no joined rows"):
        read_sources(tmp_path / "empty")
    write(draw(0, versions=EQUALLY_WIDE), tmp_path / "none" / "a")
    write(draw(5, versions=("half",)), tmp_path / "none" / "b")
    join(worlds.url, tmp_path / "none", tmp_path / "joined")
    assert set(read_sources(tmp_path / "joined")) == {"half"}
