"""The embedded store keeps the contract; below it, what only a directory of files can do."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec import structs

from gkc.errors import (
    CatalogueLostError,
    GenerationCorruptError,
    GenerationNotFoundError,
    LeaseLostError,
    StoreUnavailableError,
    StoreUrlError,
    VersionBusyError,
)
from gkc.store import Catalogue, GenerationManifest, KnowledgeReader, Publisher
from gkc.store.backends.file import FileReader, FileStorage
from gkc.store.backends.file.writer import FileTarget, FileWriter
from gkc.store.protocol import Storage
from gkc.store.sink import GenerationSink
from gkc.store.table import MappedItemTable, MappedUserTable
from gkc.store.table_format import PAGE_BYTES, TableShape
from gkc.store.table_notes import Identity, TableNotes
from gkc.store.table_writer import UserTableWriter
from gkc.strings import Ids
from gkc.testing.contract import StoreContract
from gkc.testing.samples import (
    Sample,
    assert_same_items,
    assert_serves,
    current_manifest,
    item_slices,
    make_sample,
    publish_sample,
    small_sample,
    user_slices,
)

TABLES = ("items.gkt", "users.gkt")


class FilePlace:
    """An embedded store, and its files seen from outside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"file:{directory}"
        self.namespace = "center"

    @property
    def root(self) -> Path:
        return self.directory / self.namespace

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        name = namespace or self.namespace
        return FileStorage(self.directory, name), FileReader(self.directory, name)

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        found = self.root.rglob("*")
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else b""
            for path in found
            if generation in str(path)
        }

    def put_back(self, data: Mapping[str, bytes]) -> None:
        for name, raw in sorted(data.items()):
            path = self.root / name
            if path.name in ("items.gkt", "users.gkt", "manifest.json"):
                path.write_bytes(raw)
            else:
                path.mkdir(parents=True, exist_ok=True)

    def file(self, generation: str, name: str) -> Path:
        return self.root / "generations" / generation / name

    def lose_user(self, generation: str, user: Ids) -> None:
        self.file(generation, "users.gkt").unlink()

    def lose_item(self, generation: str, item: Ids) -> None:
        self.file(generation, "items.gkt").unlink()

    def lose_manifest(self, generation: str) -> None:
        self.file(generation, "manifest.json").unlink()

    def flip_user_byte(self, generation: str, user: Ids) -> None:
        path = self.file(generation, "users.gkt")
        table = MappedUserTable(path, generation)
        start = table.header.sections["records"].offset
        table.close()
        flip(path, start + 1001)

    def flip_item_byte(self, generation: str, item: Ids) -> None:
        path = self.file(generation, "items.gkt")
        table = MappedItemTable(path, generation)
        start = table.header.sections["rows"].offset
        table.close()
        flip(path, start + 1001)

    def set_catalogue(self, raw: bytes | None) -> None:
        path = self.root / "catalogue.json"
        if raw is None:
            path.unlink()
        else:
            path.write_bytes(raw)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file, in place and past its read-only mode."""
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(raw)


@pytest.fixture
def place(tmp_path: Path) -> FilePlace:
    return FilePlace(tmp_path / "store")


class TestFileStore(StoreContract):
    """The contract, on files."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> FilePlace:
        return FilePlace(tmp_path / "store")


# ---- what only this backend can do


def export(place: FilePlace, sample: Sample | None = None) -> str:
    """Publish a sample and return its generation."""
    return publish_sample(Publisher(place.open_pair()[0]), sample or make_sample()).generation


async def manifest_of(
    place: FilePlace, generation: str, mirror_dir: Path | None = None
) -> tuple[FileReader, GenerationManifest]:
    reader = FileReader(place.directory, place.namespace, mirror_dir)
    return reader, await reader.manifest(generation)


def test_sealed_files_are_read_only(place: FilePlace) -> None:
    generation = export(place)
    modes = {name: place.file(generation, name).stat().st_mode & 0o777 for name in TABLES}
    assert modes == dict.fromkeys(TABLES, 0o444)


def test_nothing_but_what_is_served_is_left(place: FilePlace) -> None:
    generations = [export(place, make_sample("v1", seed)) for seed in range(3)]
    storage, _ = place.open_pair()
    catalogue = Publisher(storage).catalogue()
    expected = {"catalogue.json", "catalogue.lock", "generations", "leases"}
    for generation in catalogue.generations:
        expected.add(f"generations/{generation}")
        expected |= {f"generations/{generation}/{n}" for n in (*TABLES, "manifest.json")}
    assert list(catalogue.generations) == generations[1:]
    assert {str(p.relative_to(place.root)) for p in place.root.rglob("*")} == expected


def test_a_foreign_file_is_neither_deleted_nor_in_the_way(place: FilePlace) -> None:
    generation = export(place)
    note = place.file(generation, "note.txt")
    note.write_text("mine")
    publisher = Publisher(place.open_pair()[0])
    publisher.delete("v1", 0.0)
    assert publisher.delete_retired(wait=True) == [generation]
    assert [p.name for p in note.parent.iterdir()] == ["note.txt"]


async def read_something(reader: FileReader, manifest: GenerationManifest, name: str) -> None:
    if name == "items.gkt":
        await reader.item_table(manifest, 0)
    else:
        await reader.fetch_users(manifest, make_sample().users.ids)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("length", [0, 100, 4096, -1])
async def test_a_short_file_is_damage(place: FilePlace, name: str, length: int) -> None:
    generation = export(place)
    reader, manifest = await manifest_of(place, generation)
    path = place.file(generation, name)
    os.truncate(path, length if length >= 0 else path.stat().st_size - 1)
    with pytest.raises(GenerationCorruptError, match=name):
        await read_something(reader, manifest, name)
    with pytest.raises(GenerationCorruptError, match=name):
        await reader.verify(manifest, lambda rows: None)
    await reader.close()


async def test_a_file_cut_short_under_a_reader_is_damage_not_its_death(place: FilePlace) -> None:
    sample = make_sample()
    generation = export(place, sample)
    reader, manifest = await manifest_of(place, generation)
    await reader.fetch_users(manifest, sample.users.ids)
    table = await reader.item_table(manifest, 0)
    for name in TABLES:
        os.truncate(place.file(generation, name), 4096)
    with pytest.raises(GenerationCorruptError, match="4096 bytes"):
        await reader.fetch_users(manifest, sample.users.ids)
    with pytest.raises(GenerationCorruptError, match="4096 bytes"):
        table.rows_of(sample.items.ids)
    table.close()
    await reader.close()


@pytest.mark.parametrize("name", TABLES)
async def test_a_table_is_read_once_a_host_and_then_by_whoever_scrubs(
    place: FilePlace, tmp_path: Path, name: str
) -> None:
    generation = export(place)
    path, notes = place.file(generation, name), TableNotes(tmp_path)
    reader, manifest = await manifest_of(place, generation, tmp_path)
    await reader.item_table(manifest, 0)
    await reader.close()
    flip(path, PAGE_BYTES)
    reader, manifest = await manifest_of(place, generation, tmp_path)
    with pytest.raises(GenerationCorruptError, match="section starts differs"):
        await reader.item_table(manifest, 0)
    await asyncio.sleep(0.03)  # what is younger is not noted
    notes.add(Identity.of(path.stat()))  # as if it was found whole
    items = await reader.item_table(manifest, 0)
    assert not reader.has_changed(items)
    with pytest.raises(GenerationCorruptError, match="section starts differs"):
        list(reader.scrub(items))
    with pytest.raises(GenerationCorruptError, match="section starts differs"):
        await reader.item_table(manifest, 0)
    flip(path, PAGE_BYTES)
    assert reader.has_changed(items)
    (await reader.item_table(manifest, 0)).close()
    items.close()
    await reader.close()


async def test_what_was_verified_is_not_read_again(place: FilePlace, tmp_path: Path) -> None:
    generation = export(place)
    await asyncio.sleep(0.03)  # what is younger is not noted
    reader, manifest = await manifest_of(place, generation, tmp_path)
    await reader.verify(manifest, lambda rows: None)
    await reader.close()
    notes = TableNotes(tmp_path)
    assert all(notes.has(Identity.of(place.file(generation, name).stat())) for name in TABLES)


async def test_a_deleted_generation_stays_readable_for_who_has_mapped_it(place: FilePlace) -> None:
    sample = make_sample()
    generation = export(place, sample)
    reader, manifest = await manifest_of(place, generation)
    table = await reader.item_table(manifest, 0)
    await reader.fetch_users(manifest, sample.users.ids[:1])
    publisher = Publisher(place.open_pair()[0])
    publisher.delete("v1", 0.0)
    publisher.delete_retired(wait=True)
    assert not place.data_of(generation)
    rows = table.rows_of(sample.items.ids)
    assert_same_items(table.take(rows), sample.items)
    records = await reader.fetch_users(manifest, sample.users.ids)
    assert [bytes(r) for r in records if r is not None] == sample.records(generation)
    # The next look at the catalogue lets go of it, so that its space returns.
    await reader.catalogue()
    with pytest.raises(GenerationNotFoundError):
        await reader.fetch_users(manifest, sample.users.ids)
    assert [bytes(r) for r in records if r is not None] == sample.records(generation)
    table.close()
    with pytest.raises(GenerationNotFoundError):
        table.rows_of(sample.items.ids)
    with pytest.raises(GenerationNotFoundError):
        table.take(rows)


async def test_what_is_missing_of_a_retired_generation_was_deleted(place: FilePlace) -> None:
    generation = export(place)
    reader, manifest = await manifest_of(place, generation)
    place.lose_user(generation, make_sample().users.ids[:1])
    with pytest.raises(GenerationCorruptError, match=r"users\.gkt is missing"):
        await reader.fetch_users(manifest, make_sample().users.ids)
    Publisher(place.open_pair()[0]).delete("v1", 3600.0)
    with pytest.raises(GenerationNotFoundError):
        await reader.fetch_users(manifest, make_sample().users.ids)


@pytest.mark.parametrize("name", ["manifest.json", "catalogue.json"])
async def test_every_flipped_bit_of_a_small_record_is_noticed(place: FilePlace, name: str) -> None:
    generation = export(place, small_sample("v1"))
    path = place.root / name if name == "catalogue.json" else place.file(generation, name)
    reader = FileReader(place.directory, place.namespace)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x02
        path.write_bytes(damaged)
        with pytest.raises((GenerationCorruptError, CatalogueLostError)):
            await (reader.catalogue() if path.parent == place.root else reader.manifest(generation))


async def test_the_table_of_another_generation_is_damage(place: FilePlace) -> None:
    first, second = export(place, make_sample("a")), export(place, make_sample("b", 1))
    reader, manifest = await manifest_of(place, first)
    for name in TABLES:
        place.file(first, name).unlink()
        shutil.copy(place.file(second, name), place.file(first, name))
    with pytest.raises(GenerationCorruptError, match=second):
        await reader.item_table(manifest, 0)
    with pytest.raises(GenerationCorruptError, match=second):
        await reader.fetch_users(manifest, make_sample().users.ids)
    # One that claims to be the right one, but is not what the manifest was written for.
    users = place.file(first, "users.gkt")
    users.unlink()
    target = FileTarget(users)
    target.finish(UserTableWriter(target, first, TableShape("users", 0)).finish())
    target.close()
    with pytest.raises(GenerationCorruptError, match="not the one it was"):
        await reader.fetch_users(manifest, make_sample().users.ids)
    await reader.close()


async def test_verify_compares_the_stored_manifest_with_the_one_given(place: FilePlace) -> None:
    reader, manifest = await manifest_of(place, export(place))
    other = structs.replace(manifest, totals=structs.replace(manifest.totals, largest_user=99.0))
    with pytest.raises(GenerationCorruptError, match="manifest is another one"):
        await reader.verify(other, lambda rows: None)
    await reader.close()


async def test_a_manifest_moved_here_is_damage(place: FilePlace) -> None:
    first, second = export(place, make_sample("a")), export(place, make_sample("b", 1))
    shutil.copy(place.file(second, "manifest.json"), place.file(first, "manifest.json"))
    with pytest.raises(GenerationCorruptError, match=second):
        await FileReader(place.directory, place.namespace).manifest(first)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_lies_in_the_place_of_a_file_is_named(
    place: FilePlace, make: Callable[[Path], None]
) -> None:
    generation = export(place)
    reader, manifest = await manifest_of(place, generation)
    for name in TABLES:
        path = place.file(generation, name)
        path.unlink()
        make(path)
        with pytest.raises(StoreUnavailableError, match=f"{path}: is not a regular file"):
            await read_something(reader, manifest, name)
    path = place.file(generation, "manifest.json")
    path.unlink()
    make(path)
    with pytest.raises(StoreUnavailableError, match=f"{path}: is not a regular file"):
        await reader.manifest(generation)
    with pytest.raises(StoreUnavailableError, match="is not a regular file"):
        await reader.verify(manifest, lambda rows: None)
    place.set_catalogue(None)
    make(place.root / "catalogue.json")
    with pytest.raises(StoreUnavailableError, match=r"catalogue\.json: is not a regular file"):
        await reader.catalogue()
    with pytest.raises(StoreUnavailableError, match=r"catalogue\.json: is not a regular file"):
        place.open_pair()[0].read_catalogue()
    await reader.close()


async def test_a_store_that_is_no_directory_is_not_available(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage, reader = FilePlace(tmp_path / "file").open_pair()
    with pytest.raises(StoreUnavailableError, match="Not a directory"):
        await reader.catalogue()
    with pytest.raises(StoreUnavailableError, match="Not a directory"):
        storage.read_catalogue()
    with pytest.raises(StoreUnavailableError, match="Not a directory"):
        storage.acquire_lease("v1", "me")
    with pytest.raises(StoreUnavailableError, match="Not a directory"):
        storage.swap_catalogue(None, Catalogue().to_bytes())


def test_a_full_disk_is_told_by_its_name(place: FilePlace) -> None:
    # Beyond RLIMIT_FSIZE a write fails as on a full disk; in a child, whom alone the limit binds.
    script = (
        "import resource, signal, sys\n"
        "from gkc.errors import StoreUnavailableError\n"
        "from gkc.store import open_publisher\n"
        "from gkc.testing.samples import make_sample, publish_sample\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    publish_sample(open_publisher(sys.argv[1], sys.argv[2]), make_sample())\n"
        "except StoreUnavailableError as exc:\n"
        "    sys.exit(str(exc))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, place.url, place.namespace],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"store file:{place.directory} is not available: File too large" in done.stderr


@pytest.mark.parametrize("namespace", ["", ".", "..", "a/b", "a b", "x" * 65])
def test_a_namespace_stays_inside_the_store(tmp_path: Path, namespace: str) -> None:
    for open_one in (FileReader, FileStorage):
        with pytest.raises(StoreUrlError, match="namespace"):
            open_one(tmp_path, namespace)


@pytest.mark.parametrize("version", [".", "..", "a.lock", "-"])
async def test_odd_names_of_versions_are_only_names(place: FilePlace, version: str) -> None:
    sample = small_sample(version)
    export(place, sample)
    reader = FileReader(place.directory, place.namespace)
    await assert_serves(reader, await current_manifest(reader, version), sample)
    await reader.close()
    assert [p.name for p in place.directory.parent.iterdir()] == ["store"]


# ---- leases


def test_a_lease_leaves_no_file_behind(place: FilePlace) -> None:
    storage, _ = place.open_pair()
    lease = storage.acquire_lease("v1", "me")
    lease.check("g")
    assert [p.name for p in (place.root / "leases").iterdir()] == ["v1.lock"]
    with pytest.raises(VersionBusyError, match="written by me"):
        storage.acquire_lease("v1", "you")
    lease.release()
    lease.release()
    assert list((place.root / "leases").iterdir()) == []
    with pytest.raises(LeaseLostError):
        lease.check("g")


def test_a_lease_whose_file_was_removed_is_lost(place: FilePlace) -> None:
    storage, _ = place.open_pair()
    lease = storage.acquire_lease("v1", "me")
    (place.root / "leases" / "v1.lock").unlink()
    other = storage.acquire_lease("v1", "you")
    with pytest.raises(LeaseLostError):
        lease.check("g")
    lease.release()
    other.check("g")  # releasing the lost one left the other's file alone
    other.release()


def test_nobody_writes_without_the_lease(place: FilePlace) -> None:
    storage, _ = place.open_pair()
    lease = storage.acquire_lease("v1", "me")
    lease.release()
    with pytest.raises(LeaseLostError):
        storage.open_sink("0000000009-feedbeef", make_sample().spec, lease, resume=False)
    assert place.data_of("0000000009-feedbeef") == {}


def test_a_lease_that_cannot_be_noted_is_given_back(
    place: FilePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    storage, _ = place.open_pair()
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StoreUnavailableError, match="Input/output error"):
        storage.acquire_lease("v1", "me")
    monkeypatch.undo()
    storage.acquire_lease("v1", "me").release()


def test_a_lease_file_removed_between_opening_and_locking_is_not_the_lease(
    place: FilePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, _ = place.open_pair()
    path = place.root / "leases" / "v1.lock"
    lock = fcntl.flock

    def lock_too_late(fd: int, operation: int) -> None:
        monkeypatch.undo()
        path.unlink()  # as its former holder does when it ends
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    lease = storage.acquire_lease("v1", "me")
    lease.check("g")
    assert path.exists()
    lease.release()


def test_many_takers_of_one_lease_hold_it_one_at_a_time(place: FilePlace) -> None:
    storage, _ = place.open_pair()
    holding: list[int] = []
    taken: list[int] = []

    def take_often(me: int) -> None:
        while len(taken) < 200:
            try:
                lease = storage.acquire_lease("v1", str(me))
            except VersionBusyError:
                continue
            holding.append(me)
            taken.append(len(holding))
            holding.remove(me)
            lease.release()

    threads = [threading.Thread(target=take_often, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(taken) == {1}


def test_a_catalogue_lock_that_is_never_given_back_is_told(
    place: FilePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gkc.store.backends.file.storage._LOCK_TIMEOUT_SECONDS", 0.05)
    storage, _ = place.open_pair()
    assert storage.swap_catalogue(None, b"first")
    with (place.root / "catalogue.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match=r"catalogue\.lock"):
            storage.swap_catalogue(b"first", b"second")
    assert storage.swap_catalogue(b"first", b"second")


# ---- checkpoints


def open_sink(place: FilePlace, sample: Sample, *, resume: bool) -> GenerationSink:
    writer = FileWriter(place.root / "generations" / "g", place.url, "g", sample.spec)
    return GenerationSink(writer, "g", sample.spec, resume=resume)


@pytest.fixture
def noting_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gkc.store.sink._CHECKPOINT_BYTES", 1)


@pytest.mark.usefixtures("noting_often")
def test_a_resumed_sink_goes_on_at_the_last_checkpoint(place: FilePlace) -> None:
    sample = make_sample()
    whole = open_sink(place, sample, resume=False)
    for items in item_slices(sample.items):
        whole.write_items(items)
    for users in user_slices(sample.users):
        whole.write_users(users)
    expected = whole.seal()
    files = {name: place.file("g", name).read_bytes() for name in TABLES}
    shutil.rmtree(place.root)

    first = open_sink(place, sample, resume=False)
    blocks = list(item_slices(sample.items))
    for items in blocks[:3]:
        first.write_items(items)
    assert first.written().items == 1200
    first.close()
    # What came after the checkpoint may be anything: torn, or longer than it ought to be.
    with place.file("g", "items.gkt").open("ab") as file:
        file.write(b"\xff" * 100_000)

    second = open_sink(place, sample, resume=True)
    assert (second.written().items, second.written().users) == (1200, 0)
    for items in item_slices(sample.items, 1200):
        second.write_items(items)
    second.write_users(next(user_slices(sample.users)))
    second.close()

    third = open_sink(place, sample, resume=True)
    assert (third.written().items, third.written().users) == (2300, 400)
    for users in user_slices(sample.users, 400):
        third.write_users(users)
    assert place.file("g", "progress.json").exists()
    assert third.seal() == expected
    assert not place.file("g", "progress.json").exists()
    assert {name: place.file("g", name).read_bytes() for name in TABLES} == files


def test_without_a_checkpoint_a_resumed_sink_begins_anew(place: FilePlace) -> None:
    sample = make_sample()
    first = open_sink(place, sample, resume=False)
    first.write_items(next(item_slices(sample.items)))
    first.close()
    second = open_sink(place, sample, resume=True)
    assert second.written().items == 0
    for items in item_slices(sample.items):
        second.write_items(items)
    second.close()


@pytest.mark.usefixtures("noting_often")
def test_a_writer_that_died_while_sealing_is_resumed(place: FilePlace) -> None:
    sample = make_sample()
    first = open_sink(place, sample, resume=False)
    for items in item_slices(sample.items):
        first.write_items(items)
    for users in user_slices(sample.users):
        first.write_users(users)
    progress = place.file("g", "progress.json").read_bytes()
    expected = first.seal()
    # As if it had died before the manifest: both tables finished and read-only, no manifest.
    place.file("g", "manifest.json").unlink()
    place.file("g", "progress.json").write_bytes(progress)
    second = open_sink(place, sample, resume=True)
    assert second.written().users == 1200
    assert second.seal() == expected


@pytest.mark.usefixtures("noting_often")
def test_a_damaged_record_of_progress_is_told(place: FilePlace) -> None:
    sample = make_sample()
    first = open_sink(place, sample, resume=False)
    first.write_items(next(item_slices(sample.items)))
    first.close()
    flip(place.file("g", "progress.json"), 30)
    with pytest.raises(GenerationCorruptError, match="note of its progress"):
        open_sink(place, sample, resume=True)
