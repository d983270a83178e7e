"""A table's file is read again as it is by then: whatever look-ups rely on, and no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.store import table_file
from gkc.store.table_file import TableFile
from gkc.store.table_format import TableHeader, TableKind
from gkc.testing.samples import make_ids
from tests.gkc.store.test_table import write_items, write_users


def write(path: Path, kind: TableKind) -> TableHeader:
    ids = make_ids(30, 1)
    if kind == "items":
        return write_items(path, ids)
    return write_users(path, ids, [bytes([k]) * 8 for k in range(30)])


def flip(path: Path, offset: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), bytes([os.pread(file.fileno(), 1, offset)[0] ^ 4]), offset)


@pytest.mark.parametrize("kind", ["items", "users"])
def test_a_flipped_bit_is_found_in_every_section_but_the_records(
    tmp_path: Path, kind: TableKind
) -> None:
    path = tmp_path / kind
    header = write(path, kind)
    file = TableFile(path, kind, "g")
    for name, section in header.sections.items():
        for at in (0, section.length // 2, section.length - 1):
            flip(path, section.offset + at)
            assert file.has_changed()
            if name == "records":
                assert list(file.check()) == []
            else:
                with pytest.raises(GenerationCorruptError, match=f"{path}.* section {name} diff"):
                    list(file.check())
            flip(path, section.offset + at)
    list(file.check())
    assert not file.has_changed()
    file.close()


def test_it_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = write(tmp_path / "items", "items")
    monkeypatch.setattr(table_file, "_PIECE_BYTES", 100)
    file = TableFile(tmp_path / "items", "items", "g")
    read = sum(section.length for section in header.sections.values())
    assert read // 200 < len(list(file.check())) <= read // 100
    file.close()


def test_what_is_cut_off_differs(tmp_path: Path) -> None:
    write(tmp_path / "items", "items")
    file = TableFile(tmp_path / "items", "items", "g")
    os.truncate(tmp_path / "items", 5000)
    with pytest.raises(GenerationCorruptError, match="differs"):
        list(file.check())
    file.close()


def test_a_closed_file_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "items", "items")
    file = TableFile(tmp_path / "items", "items", "g")
    file.close()
    file.close()
    assert not file.has_changed()
    with pytest.raises(GenerationNotFoundError):
        list(file.check())


def test_a_table_that_nobody_holds_closes_its_file(tmp_path: Path) -> None:
    write(tmp_path / "items", "items")
    before = len([*Path("/proc/self/fd").iterdir()])
    file: TableFile | None = TableFile(tmp_path / "items", "items", "g")
    assert file is not None
    del file
    assert len([*Path("/proc/self/fd").iterdir()]) == before
