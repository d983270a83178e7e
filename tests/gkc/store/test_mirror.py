"""This host's copies of item tables: made once, anew when damaged, removed when not needed."""

from __future__ import annotations

import fcntl
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gkc.errors import GenerationCorruptError, GenerationNotFoundError, StoreUnavailableError
from gkc.store import Catalogue, GenerationManifest, Totals
from gkc.store.catalogue import GenerationEntry
from gkc.store.chunks import ChunkSizes
from gkc.store.mirror import MirrorDirectory, default_mirror_dir
from gkc.store.table import MappedItemTable
from gkc.store.table_writer import ItemTableWriter, MemoryTarget
from gkc.testing.samples import Sample, assert_same_items, make_sample

SAMPLE = make_sample(items=2300, dim=300)
GENERATION = "0000000007-abcdef01"
STORE = "redis://somewhere:6379/0"


def chunks_of(sample: Sample) -> list[bytes]:
    """The items table of a sample, cut into chunks."""
    shape = sample.spec.item_shape
    target = MemoryTarget(shape.size_bytes())
    writer = ItemTableWriter(target, GENERATION, shape)
    writer.append(sample.items)
    writer.finish()
    sizes = ChunkSizes(shape, sample.spec.layout)
    whole = bytes(target.memory)
    starts = [number * sizes.chunk_bytes for number in range(sizes.count)]
    return [whole[at : at + sizes.chunk_bytes] for at in starts]


def manifest_of(sample: Sample, chunks: list[bytes]) -> GenerationManifest:
    crc32s = b"".join(zlib.crc32(chunk).to_bytes(4, "little") for chunk in chunks)
    spec = sample.spec
    return GenerationManifest(GENERATION, spec, spec.layout, Totals(), {}, crc32s)


CHUNKS = chunks_of(SAMPLE)
MANIFEST = manifest_of(SAMPLE, CHUNKS)


class Source:
    """Chunks as a store would give them, and which of them it was asked for, each time."""

    def __init__(self, pause: float = 0.0, chunks: Sequence[bytes] = CHUNKS) -> None:
        self.asked: list[list[int]] = []
        self.chunks = list(chunks)
        self._pause = pause

    @property
    def reads(self) -> int:
        return len(self.asked)

    def __call__(self, numbers: Sequence[int]) -> Iterator[bytes]:
        self.asked.append(list(numbers))
        for number in numbers:
            yield self.chunks[number]
            time.sleep(self._pause)


def mirrors_in(root: Path, namespace: str = "center") -> MirrorDirectory:
    return MirrorDirectory(root, STORE, namespace)


def check_and_close(table: MappedItemTable) -> None:
    assert_same_items(table.take(table.rows_of(SAMPLE.items.ids)), SAMPLE.items)
    table.close()


def test_items_are_copied_once_and_mapped_by_whoever_comes(tmp_path: Path) -> None:
    source = Source()
    mirrors = mirrors_in(tmp_path)
    check_and_close(mirrors.open(MANIFEST, source, 1 << 30))
    check_and_close(mirrors.open(MANIFEST, source, 0))
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 1
    assert [p.name for p in mirrors.directory.iterdir()] == [f"{GENERATION}.gkt"]


def test_a_host_that_has_another_mirror_lets_others_copy_a_large_table_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.mirror._AT_ONCE_BYTES", 0)
    monkeypatch.setattr("gkc.store.mirror._SPREAD_BYTES_A_SECOND", 1)
    source, mirrors = Source(), mirrors_in(tmp_path)
    check_and_close(mirrors.open(MANIFEST, source, 0))  # there is nothing yet to answer from
    (mirrors.directory / f"{GENERATION}.gkt").rename(mirrors.directory / "0000000006-abcdef01.gkt")
    check_and_close(mirrors.open(MANIFEST, source, 0))  # it was lost: nothing else answers
    (mirrors.directory / f"{GENERATION}.gkt").unlink()
    another = mirrors_in(tmp_path)
    waiting = threading.Timer(0.1, another.stop)
    waiting.start()
    with pytest.raises(StoreUnavailableError, match="ends while it copies"):
        another.open(MANIFEST, source, 0)
    assert source.reads == 2
    waiting.join()


def test_a_mirror_that_is_damaged_while_it_is_mapped_is_copied_anew(tmp_path: Path) -> None:
    source = Source()
    mirrors = mirrors_in(tmp_path)
    table = mirrors.open(MANIFEST, source, 0)
    list(mirrors.scrub(table))
    path = mirrors.directory / f"{GENERATION}.gkt"
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff", 5000)
    with pytest.raises(GenerationCorruptError, match="differs"):
        list(mirrors.scrub(table))
    table.close()
    check_and_close(mirrors.open(MANIFEST, source, 0))
    assert source.reads == 2


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
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 2
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.reads == 2


def test_a_mirror_of_another_size_is_not_used(tmp_path: Path) -> None:
    mirrors = mirrors_in(tmp_path)
    mirrors.open(MANIFEST, Source(), 0).close()
    wider = replace(MANIFEST, spec=replace(SAMPLE.spec, items=2301))
    with pytest.raises(GenerationCorruptError, match="of its items is damaged"):
        mirrors.open(wider, Source(), 0)


@pytest.mark.parametrize("error", [GenerationNotFoundError(GENERATION), KeyboardInterrupt()])
def test_a_copy_that_failed_goes_on_where_it_was(tmp_path: Path, error: BaseException) -> None:
    def failing(numbers: Sequence[int]) -> Iterator[bytes]:
        yield from CHUNKS[:3]
        raise error

    mirrors = mirrors_in(tmp_path)
    with pytest.raises(type(error)):
        mirrors.open(MANIFEST, failing, 0)
    assert [p.name for p in mirrors.directory.iterdir()] == [f"{GENERATION}.tmp"]
    source = Source()
    check_and_close(mirrors_in(tmp_path).open(MANIFEST, source, 0))
    assert source.asked == [list(range(3, len(CHUNKS)))]
    assert [p.name for p in mirrors.directory.iterdir()] == [f"{GENERATION}.gkt"]


@pytest.mark.parametrize("damage", ["flipped", "torn", "longer", "whole"])
def test_what_an_interrupted_copy_has_is_verified(tmp_path: Path, damage: str) -> None:
    mirrors = mirrors_in(tmp_path)
    with pytest.raises(GenerationCorruptError):
        mirrors.open(MANIFEST, Source(chunks=[*CHUNKS[:3], b"damaged"]), 0)
    path = mirrors.directory / f"{GENERATION}.tmp"
    raw = bytearray(path.read_bytes())
    assert len(raw) == 3 * len(CHUNKS[0])
    if damage == "flipped":
        raw[len(CHUNKS[0]) + 77] ^= 1
    left = {"torn": raw[:-100], "longer": raw + b"more", "whole": bytearray().join(CHUNKS)}
    path.write_bytes(left.get(damage, raw))
    source = Source()
    check_and_close(mirrors.open(MANIFEST, source, 0))
    begin = {"flipped": 1, "torn": 2, "longer": 3, "whole": len(CHUNKS)}[damage]
    assert source.asked == [list(range(begin, len(CHUNKS)))]


@pytest.mark.parametrize("wrong", [b"", CHUNKS[1], CHUNKS[2] + b"x", CHUNKS[2][:-1] + b"x"])
def test_a_damaged_chunk_is_named(tmp_path: Path, wrong: bytes) -> None:
    source = Source()
    source.chunks[2] = wrong
    with pytest.raises(GenerationCorruptError, match="chunk 2 of its items is damaged"):
        mirrors_in(tmp_path).open(MANIFEST, source, 0)


def test_a_generation_without_items_has_a_mirror(tmp_path: Path) -> None:
    empty = make_sample(items=0)
    chunks = chunks_of(empty)
    source = Source(chunks=chunks)
    table = mirrors_in(tmp_path).open(manifest_of(empty, chunks), source, 1 << 30)
    assert table.rows_of(np.array([1, 2], dtype=np.int64)).tolist() == [-1, -1]
    table.close()


def test_a_process_that_ends_stops_copying_and_waiting(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()
    builder, waiter = mirrors_in(tmp_path), mirrors_in(tmp_path)
    failures: list[BaseException] = []

    def read(numbers: Sequence[int]) -> Iterator[bytes]:
        for number in numbers:
            yield CHUNKS[number]
            begun.set()
            gate.wait(timeout=60)

    def build(mirrors: MirrorDirectory) -> None:
        try:
            mirrors.open(MANIFEST, read, 0).close()
        except StoreUnavailableError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=build, args=(m,)) for m in (builder, waiter)]
    threads[0].start()
    assert begun.wait(timeout=60)
    threads[1].start()
    time.sleep(0.05)  # it waits by then, mostly
    waiter.stop()
    threads[1].join(timeout=60)
    builder.stop()
    gate.set()
    threads[0].join(timeout=60)
    assert len(failures) == 2
    assert all("ends" in str(exc) for exc in failures)
    assert [p.name for p in builder.directory.iterdir()] == [f"{GENERATION}.tmp"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreUnavailableError, match=r"cannot be copied to .*file"):
        mirrors_in(tmp_path / "file").open(MANIFEST, Source(), 0)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("suffix", [".gkt", ".tmp"])
def test_what_lies_in_the_place_of_a_mirror_is_named(
    tmp_path: Path, make: Callable[[Path], None], suffix: str
) -> None:
    mirrors = mirrors_in(tmp_path)
    mirrors.directory.mkdir(parents=True)
    path = mirrors.directory / (GENERATION + suffix)
    make(path)
    with pytest.raises(StoreUnavailableError, match=f"copied to {path}: is not a regular file"):
        mirrors.open(MANIFEST, Source(), 0)


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
    unfinished = directory / f"{GENERATION}.tmp"
    unfinished.write_bytes(b"x")
    assert mirrors.remove_orphans({GENERATION}, 8) == []  # its copy goes on where it was
    assert mirrors.remove_orphans(set(), 8) == [f"{GENERATION}.gkt", unfinished.name]
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
