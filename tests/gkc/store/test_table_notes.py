"""A note holds for one content of one file, for a boot, and for a month."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import structlog

from gkc.store import table_notes
from gkc.store.table_notes import Identity, TableNotes

DAY = 24 * 3600


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "items.gkt"
    path.write_bytes(b"content")
    time.sleep(0.03)  # what is younger is not noted
    return path


def identity(path: Path) -> Identity:
    return Identity.of(path.stat())


def test_a_note_is_for_every_process_of_this_host(tmp_path: Path, table: Path) -> None:
    notes = TableNotes(tmp_path / "mirror")
    assert not notes.has(identity(table))
    notes.add(identity(table))
    assert TableNotes(tmp_path / "mirror").has(identity(table))
    notes.add_damage(identity(table), "torn")
    notes.add_damage(identity(table), "torn")
    assert not notes.has(identity(table))


def write_to(path: Path) -> None:
    path.write_bytes(b"CONTENT")


def write_to_and_set_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [write_to, write_to_and_set_back, replace])
def test_a_changed_file_is_not_noted(tmp_path: Path, table: Path, change: object) -> None:
    notes = TableNotes(tmp_path / "mirror")
    notes.add(identity(table))
    assert callable(change)
    change(table)
    assert not notes.has(identity(table))


@pytest.mark.parametrize("change", [write_to, write_to_and_set_back, replace])
def test_a_damaged_table_is_read_again_once_somebody_wrote_to_it(
    tmp_path: Path, table: Path, change: object
) -> None:
    notes = TableNotes(tmp_path / "mirror")
    assert notes.damage_of(identity(table)) is None
    notes.add_damage(identity(table), "torn")
    assert notes.damage_of(identity(table)) == "torn"
    assert callable(change)
    change(table)
    assert notes.damage_of(identity(table)) is None
    notes.add_damage(
        identity(table), "written to a moment ago: it may be whole before its times tell"
    )
    assert notes.damage_of(identity(table)) is None


def test_a_damaged_table_is_read_again_after_a_while(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = TableNotes(tmp_path / "mirror")
    notes.add_damage(identity(table), "torn")
    monkeypatch.setattr(table_notes, "_AGAIN_SECONDS", 0.0)
    assert notes.damage_of(identity(table)) is None


def test_another_boot_has_no_notes(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = TableNotes(tmp_path / "mirror")
    notes.add(identity(table))
    monkeypatch.setattr(table_notes, "_boot", lambda: "another")
    assert not notes.has(identity(table))


def test_old_notes_do_not_hold_and_are_dropped(tmp_path: Path, table: Path) -> None:
    notes = TableNotes(tmp_path / "mirror")
    notes.add(identity(table))
    (note,) = (tmp_path / "mirror/checked").iterdir()
    os.utime(note, (time.time() - 31 * DAY,) * 2)
    assert not notes.has(identity(table))
    replace(table)
    time.sleep(0.03)
    notes.add(identity(table))
    assert not note.exists()
    assert notes.has(identity(table))


def test_a_file_that_is_being_written_is_not_noted(tmp_path: Path) -> None:
    path = tmp_path / "items.gkt"
    path.write_bytes(b"content")
    notes = TableNotes(tmp_path / "mirror")
    notes.add(identity(path)._replace(ctime_ns=time.time_ns()))
    assert not (tmp_path / "mirror").exists()


def test_where_nothing_can_be_noted_that_is_told(tmp_path: Path, table: Path) -> None:
    (tmp_path / "mirror").write_bytes(b"a file in its place")
    notes = TableNotes(tmp_path / "mirror")
    with structlog.testing.capture_logs() as told:
        notes.add(identity(table))
        notes.add_damage(identity(table), "torn")
    assert not notes.has(identity(table))
    assert [line["event"] for line in told] == ["table_not_noted", "table_still_noted"]
