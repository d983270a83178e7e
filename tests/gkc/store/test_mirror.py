"""This host's copies of item tables: built once, rebuilt when damaged, removed when not needed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gkc.errors import GenerationCorruptError, GenerationNotFoundError, StoreUnavailableError
from gkc.store import Catalogue, GenerationManifest, ItemBlock, Totals
from gkc.store.catalogue import GenerationEntry
from gkc.store.mirror import MirrorDirectory, default_mirror_dir
from gkc.store.table import MappedItemTable
from gkc.testing.samples import assert_same_items, item_slices, make_sample

SAMPLE = make_sample(items=2300)
GENERATION = "0000000007-abcdef01"
MANIFEST = GenerationManifest(GENERATION, SAMPLE.spec, Totals(), {})
STORE = "redis://somewhere:6379/0"


class Source:
    """Items as a store would give them, and how often it was asked for them."""

    def __init__(self, pause: float = 0.0) -> None:
        self.reads = 0
        self._pause = pause

    def __call__(self) -> Iterator[ItemBlock]:
        self.reads += 1
        for block in item_slices(SAMPLE.items):
            time.sleep(self._pause)
            yield block


def mirrors_in(root: Path, namespace: str = "center") -> MirrorDirectory:
    return MirrorDirectory(root, STORE, namespace)


def check_and_close(table: MappedItemTable) -> None:
    assert_same_items(table.take(table.rows_of(SAMPLE.items.ids)), SAMPLE.items)
    table.close()


def age(path: Path) -> None:
    """Make a file look as if an earlier process had left it."""
    os.utime(path, (1, 1))


def test_items_are_copied_once_and_mapped_by_whoever_comes(tmp_path: Path) -> None:
    source = Source()
    mirrors = mirrors_in(tmp_path)
    check_and_close(mirrors.open(MANIFEST, source, 1 << 30))
    check_and_close(mirrors.open(MANIFEST, source, 0))
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 1
    assert [p.name for p in mirrors.directory.iterdir()] == [f"{GENERATION}.gkt"]


def test_stores_and_namespaces_have_directories_of_their_own(tmp_path: Path) -> None:
    directories = {
        mirrors_in(tmp_path).directory,
        mirrors_in(tmp_path, "other").directory,
        MirrorDirectory(tmp_path, STORE + "1", "center").directory,
    }
    assert len(directories) == 3
    assert mirrors_in(tmp_path).directory in directories


def test_only_one_of_many_builds_while_the_others_wait(tmp_path: Path) -> None:
    source, failures = Source(pause=0.03), []

    def build() -> None:
        try:
            check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
        except BaseException as exc:  # noqa: BLE001 - shown by the main thread
            failures.append(exc)

    threads = [threading.Thread(target=build) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert source.reads == 1


@pytest.mark.parametrize("damage", ["short", "long", "header", "row", "id", "another"])
def test_a_damaged_mirror_is_built_anew(tmp_path: Path, damage: str) -> None:
    source = Source()
    first = mirrors_in(tmp_path)
    table = first.open(MANIFEST, source, 0)
    sections = table.header.sections
    table.close()
    path = first.directory / f"{GENERATION}.gkt"
    path.chmod(0o600)
    raw = bytearray(path.read_bytes())
    if damage == "short":
        raw = raw[:-5000]
    elif damage == "long":
        raw += b"more"
    elif damage == "another":
        raw = bytearray(raw.replace(GENERATION.encode(), b"0000000008-abcdef01"))
    else:
        at = {"header": 30, "row": sections["rows"].offset, "id": sections["ids"].offset}[damage]
        raw[at + 3] ^= 4
    path.write_bytes(raw)
    age(path)
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 2
    age(path)
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 2


def test_a_mirror_of_another_size_is_not_used(tmp_path: Path) -> None:
    source = Source()
    mirrors = mirrors_in(tmp_path)
    mirrors.open(MANIFEST, source, 0).close()
    wider = replace(MANIFEST, spec=replace(SAMPLE.spec, items=2301))
    with pytest.raises(GenerationCorruptError, match="promised"):
        mirrors.open(wider, source, 0)


@pytest.mark.parametrize("error", [GenerationNotFoundError(GENERATION), KeyboardInterrupt()])
def test_nothing_stays_of_a_copy_that_failed(tmp_path: Path, error: BaseException) -> None:
    def failing() -> Iterator[ItemBlock]:
        yield next(item_slices(SAMPLE.items))
        raise error

    mirrors = mirrors_in(tmp_path)
    with pytest.raises(type(error)):
        mirrors.open(MANIFEST, failing, 0)
    assert list(mirrors.directory.iterdir()) == []
    check_and_close(mirrors.open(MANIFEST, Source(), 0))


def test_items_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    blocks = list(item_slices(SAMPLE.items))
    mirrors = mirrors_in(tmp_path)
    for wrong in (blocks[:-1], [*blocks, blocks[0]], blocks[::-1]):
        with pytest.raises(GenerationCorruptError, match=GENERATION):
            mirrors.open(MANIFEST, lambda wrong=wrong: iter(wrong), 0)  # type: ignore[misc]
    assert list(mirrors.directory.iterdir()) == []


def test_a_generation_without_items_has_a_mirror(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, spec=replace(SAMPLE.spec, items=0))
    table = mirrors_in(tmp_path).open(manifest, lambda: iter(()), 1 << 30)
    assert table.rows_of(np.array([1, 2], dtype=np.int64)).tolist() == [-1, -1]
    table.close()


def test_a_process_that_ends_stops_copying_and_waiting(tmp_path: Path) -> None:
    source = Source(pause=0.05)
    builder, waiter = mirrors_in(tmp_path), mirrors_in(tmp_path)
    failures: list[BaseException] = []

    def build(mirrors: MirrorDirectory) -> None:
        try:
            mirrors.open(MANIFEST, source, 0).close()
        except StoreUnavailableError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=build, args=(m,)) for m in (builder, waiter)]
    for thread in threads:
        thread.start()
        time.sleep(0.08)
    waiter.stop()
    threads[1].join(timeout=5)
    builder.stop()
    threads[0].join(timeout=5)
    assert len(failures) == 2
    assert all("ends" in str(exc) for exc in failures)
    assert list(builder.directory.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreUnavailableError, match=r"cannot be copied to .*file"):
        mirrors_in(tmp_path / "file").open(MANIFEST, Source(), 0)


def test_the_directory_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StoreUnavailableError, match="another user"):
        mirrors_in(tmp_path / "mirrors").open(MANIFEST, Source(), 0)


def test_directories_are_private(tmp_path: Path) -> None:
    mirrors = mirrors_in(tmp_path / "mirrors")
    mirrors.open(MANIFEST, Source(), 0).close()
    for directory in (mirrors.directory, mirrors.directory.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_mirrors_are_kept_with_the_temporary_files_of_a_user() -> None:
    assert default_mirror_dir().name == f"gkc-mirror-{os.getuid()}"


# ---- orphans


def test_mirrors_that_nobody_needs_are_removed(tmp_path: Path) -> None:
    mirrors = mirrors_in(tmp_path)
    table = mirrors.open(MANIFEST, Source(), 0)
    directory = mirrors.directory
    old, newer = directory / "0000000003-00000000.gkt", directory / "0000000009-00000000.gkt"
    dead = directory / "0000000004-00000000.tmp"
    for path in (old, newer, dead, directory / "0000000004-00000000.lock"):
        path.write_bytes(b"x")
    assert mirrors.remove_orphans({GENERATION}, 8) == [old.name, dead.name]
    assert {p.name for p in directory.iterdir()} == {f"{GENERATION}.gkt", newer.name}
    assert mirrors.remove_orphans(set(), 8) == [f"{GENERATION}.gkt"]
    check_and_close(table)  # whoever has it mapped may go on


def test_what_is_being_built_is_left_alone(tmp_path: Path) -> None:
    mirrors = mirrors_in(tmp_path)
    mirrors.open(MANIFEST, Source(), 0).close()
    temporary = mirrors.directory / "0000000004-00000000.tmp"
    temporary.write_bytes(b"x")
    with (mirrors.directory / "0000000004-00000000.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert mirrors.remove_orphans({GENERATION}, 8) == []
        assert temporary.exists()
    assert mirrors.remove_orphans({GENERATION}, 8) == [temporary.name]


def test_a_directory_that_is_not_there_has_no_orphans(tmp_path: Path) -> None:
    assert mirrors_in(tmp_path / "never").remove_orphans(set(), 0) == []


def test_the_catalogue_tells_what_is_needed(tmp_path: Path) -> None:
    mirrors = mirrors_in(tmp_path)
    layout = SAMPLE.spec.layout
    entry = GenerationEntry(version="v1", state="published", layout=layout)
    serving = Catalogue(counter=7, generations={GENERATION: entry})
    deleted = replace(serving, generations={GENERATION: replace(entry, state="retired")})
    path = mirrors.directory / f"{GENERATION}.gkt"
    mirrors_in(tmp_path).open(MANIFEST, Source(), 0).close()
    mirrors.tidy(deleted)  # this process has opened no mirror: not its task
    time.sleep(0.1)
    assert path.exists()
    mirrors.open(MANIFEST, Source(), 0).close()
    mirrors.tidy(serving)
    time.sleep(0.1)
    assert path.exists()
    mirrors.tidy(deleted)
    deadline = time.monotonic() + 5
    while path.exists():
        assert time.monotonic() < deadline, "the mirror of a deleted version stays"
        time.sleep(0.01)
