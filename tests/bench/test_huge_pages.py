"""The copy answers like the table, and what lies in huge pages is told of the file asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import huge_pages
from bench.huge_pages import copy_in_pieces, huge_bytes, main
from bench.id_lookup import make_table
from gkc.kernels import use
from gkc.store import hash_ids


def test_a_copy_in_pieces_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "PIECE_BYTES", 1000)
    ids = np.arange(3_000, dtype=np.int64)
    make_table(tmp_path / "written", ids[np.argsort(hash_ids(ids))]).close()
    copy_in_pieces(tmp_path / "written", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == (tmp_path / "written").read_bytes()


def test_huge_pages_are_those_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mappings = "".join(
        f"7f00-7f01 r--s 00000000 fe:00 338 {name}\nSize: 9 kB\nFilePmdMapped: {kib:8} kB\nTHP: 0\n"
        for name, kib in (("/a/t.gkt", 2048), ("/b/t.gkt", 4096), ("/a/t.gkt", 2048))
    )
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: mappings)
    assert huge_bytes(Path("/a/t.gkt")) == 4 << 20
    assert huge_bytes(Path("/c/t.gkt")) == 0


@pytest.mark.slow
def test_a_small_table_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("ITEMS", 3_000), ("QUESTIONS", 2), ("ROUNDS", 1)):
        monkeypatch.setattr(huge_pages, name, value)
    try:
        main()
    finally:
        use(None)
    assert "time of 500 items, as written to copied: " in capsys.readouterr().out
