"""What `Publisher` adds to the contract: time, waiting, and writers in each other's way."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gkc.errors import LeaseLostError, StoreFullError, StoreUnavailableError, VersionBusyError
from gkc.store import Catalogue, Publisher, Retention, changes
from gkc.store.backends.file import FileStorage
from gkc.store.sink import Lease
from gkc.testing.samples import Sample, publish_sample, small_sample, write_sample


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path, "center")


@pytest.fixture
def publisher(storage: FileStorage) -> Publisher:
    return Publisher(storage)


def die_staging(storage: FileStorage, version: str) -> str:
    """Enter a staging generation whose writer is gone, and write something for it."""
    sample = small_sample(version)
    catalogue = Publisher(storage).catalogue()
    after, generation = changes.begin(catalogue, sample.spec, 5, "dead", "a dead writer")
    assert storage.swap_catalogue(storage.read_catalogue(), after.to_bytes())
    lease = storage.acquire_lease(version, "a dead writer")
    sink = storage.open_sink(generation, sample.spec, lease, resume=False)
    sink.write_items(sample.items)
    sink.close()
    lease.release()
    return generation


def publish_with_grace(publisher: Publisher, sample: Sample, grace_seconds: float) -> str:
    with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
        retention = Retention(keep_previous=0, grace_seconds=grace_seconds)
        publisher.publish(staged, write_sample(staged, sample), retention)
    return staged.generation


def test_a_writer_that_lost_its_lease_publishes_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    sample = small_sample("v")
    with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
        manifest = write_sample(staged, sample)
        (tmp_path / "center" / "leases" / "v.lock").unlink()
        with pytest.raises(LeaseLostError, match=staged.generation):
            publisher.publish(staged, manifest, Retention(grace_seconds=0.0))
    assert dict(publisher.catalogue().versions) == {}


def test_an_empty_store_has_an_empty_catalogue(publisher: Publisher) -> None:
    assert publisher.catalogue() == Catalogue()
    assert publisher.sweep() == []
    assert publisher.delete_retired(wait=True) == []


def test_checking_an_export_names_what_it_would_evict_and_changes_nothing(
    publisher: Publisher, storage: FileStorage
) -> None:
    for version in ("a", "b", "c"):
        publish_sample(publisher, small_sample(version))
    before = storage.read_catalogue()
    assert publisher.check_export("new", 2) == ["a", "b"]
    assert publisher.check_export("a", 3) == []
    assert storage.read_catalogue() == before


def test_checking_an_export_into_a_new_store_makes_none(tmp_path: Path) -> None:
    assert Publisher(FileStorage(tmp_path / "new", "center")).check_export("v", 5) == []
    assert not (tmp_path / "new").exists()


def test_checking_an_export_that_runs_already_is_refused(publisher: Publisher) -> None:
    with (
        publisher.stage(small_sample("v").spec, max_versions=5, resume=False),
        pytest.raises(VersionBusyError, match=r"written by process \d+ on "),
    ):
        publisher.check_export("v", 5)


def test_the_grace_period_is_waited_for(publisher: Publisher) -> None:
    first = publish_with_grace(publisher, small_sample("v", 0), 0.4)
    publish_with_grace(publisher, small_sample("v", 1), 0.4)
    assert publisher.delete_retired(wait=False) == []
    begin = time.monotonic()
    assert publisher.delete_retired(wait=True) == [first]
    assert 0.1 < time.monotonic() - begin < 5
    assert publisher.catalogue().in_state("retired") == {}


def test_what_one_command_left_the_next_writer_deletes(
    publisher: Publisher, tmp_path: Path
) -> None:
    first = publish_with_grace(publisher, small_sample("v", 0), 0.0)
    publish_with_grace(publisher, small_sample("v", 1), 0.0)  # and ends without deleting
    assert (tmp_path / "center" / "generations" / first).exists()
    publish_with_grace(publisher, small_sample("other"), 0.0)
    assert not (tmp_path / "center" / "generations" / first).exists()
    assert first not in publisher.catalogue().generations


def test_dead_writers_of_every_version_are_swept(
    publisher: Publisher, storage: FileStorage, tmp_path: Path
) -> None:
    dead = [die_staging(storage, version) for version in ("a", "b", "a")]
    assert sorted(publisher.sweep()) == sorted(dead)
    assert list((tmp_path / "center" / "generations").iterdir()) == []
    states = {g: e.state for g, e in publisher.catalogue().generations.items()}
    assert states == dict.fromkeys(dead, "abandoned")


def test_a_tombstone_is_kept_for_a_day(
    publisher: Publisher, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = die_staging(storage, "a")
    now = time.time()
    publisher.sweep()
    for hours, kept in ((23, True), (25, False)):
        monkeypatch.setattr(time, "time", lambda h=hours: now + h * 3600)
        assert publisher.sweep() == [dead]
        assert (dead in publisher.catalogue().generations) == kept
    assert publisher.sweep() == []


@contextmanager
def full_disk() -> Iterator[None]:
    """Refuse this process every byte that it would write into a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with capture_logs():  # which pytest keeps in a file
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_gets_its_room_before_the_catalogue_is_told(
    publisher: Publisher, storage: FileStorage, tmp_path: Path
) -> None:
    dead = die_staging(storage, "a")
    directory = tmp_path / "center" / "generations" / dead
    assert list(directory.iterdir())
    with full_disk():
        publisher.check_export("b", 5)  # takes a lease
        with pytest.raises(StoreFullError, match="File too large; make room there"):
            publisher.sweep()
    assert not directory.exists()
    assert not (tmp_path / "center" / "catalogue.json.tmp").exists()
    assert publisher.sweep() == [dead]


def test_what_did_not_fit_is_deleted(publisher: Publisher, tmp_path: Path) -> None:
    sample = small_sample("v")
    with (
        pytest.raises(StoreFullError),
        publisher.stage(sample.spec, max_versions=5, resume=False) as staged,
        full_disk(),
    ):
        write_sample(staged, sample)
    assert not publisher.catalogue().generations
    assert not list((tmp_path / "center").rglob("*.gkt"))
    assert not list((tmp_path / "center").rglob("*.tmp"))


def test_a_generation_that_was_published_meanwhile_is_not_swept(
    publisher: Publisher, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = storage.acquire_lease

    def acquire_too_late(version: str, holder: str) -> Lease:
        monkeypatch.undo()
        publisher.publish(staged, manifest, Retention())
        staged.lease.release()
        return acquire(version, holder)

    sample = small_sample("v")
    with publisher.stage(sample.spec, max_versions=5, resume=False) as staged:
        manifest = write_sample(staged, sample)
        monkeypatch.setattr(storage, "acquire_lease", acquire_too_late)
        assert publisher.sweep() == []
    assert publisher.catalogue().version("v").current == staged.generation
    assert storage.read_catalogue()


def test_a_living_writer_is_not_swept(publisher: Publisher) -> None:
    with publisher.stage(small_sample("a").spec, max_versions=5, resume=False) as staged:
        assert publisher.sweep() == []
        publish_sample(publisher, small_sample("b"))
        assert publisher.catalogue().generations[staged.generation].state == "staging"


def test_who_only_looks_whether_a_writer_lives_is_not_in_the_way(
    publisher: Publisher, storage: FileStorage
) -> None:
    looking = storage.acquire_lease("v", "a sweeper")
    done = threading.Timer(0.2, looking.release)
    done.start()
    publish_sample(publisher, small_sample("v"))
    done.join()
    assert list(publisher.catalogue().versions) == ["v"]


def test_a_sweeper_that_never_ends_is_reported(
    publisher: Publisher, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_sample(publisher, small_sample("w"))
    monkeypatch.setattr("gkc.store.publishing._SWAP_ATTEMPTS", 3)
    looking = storage.acquire_lease("v", "a sweeper")
    with pytest.raises(VersionBusyError, match="a sweeper"):
        publisher.check_export("v", 5)
    looking.release()


def test_a_catalogue_that_never_stands_still_is_reported(
    publisher: Publisher, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_sample(publisher, small_sample("v"))
    monkeypatch.setattr("gkc.store.publishing._SWAP_ATTEMPTS", 3)
    read = storage.read_catalogue

    def read_what_changes_at_once() -> bytes | None:
        raw = read()
        stored = Catalogue.from_bytes(raw or b"")
        after = replace(stored, revision=stored.revision + 1)
        assert storage.swap_catalogue(raw, after.to_bytes())
        return raw

    monkeypatch.setattr(storage, "read_catalogue", read_what_changes_at_once)
    with pytest.raises(StoreUnavailableError, match="every one of our attempts"):
        publisher.set_pinned("v", pinned=True)


def test_a_change_that_changes_nothing_writes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    publish_sample(publisher, small_sample("v"))
    path = tmp_path / "center" / "catalogue.json"
    before = path.stat().st_ino
    assert publisher.delete_retired(wait=True) == []
    assert publisher.sweep() == []
    assert path.stat().st_ino == before
