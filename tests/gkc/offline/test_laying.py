"""Questions of any length, answered some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from gkc.errors import CommandError
from gkc.offline import laying
from gkc.offline.form import KnowledgeForm
from gkc.offline.laying import RowLayer
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, worlds_of
from tests.gkc.world import Worlds


@pytest.fixture
def reader(worlds: Worlds) -> Iterator[SnapshotReader]:
    with closing(SnapshotReader(Snapshot.take(StoreAddress(worlds.url)))) as opened:
        yield opened


def test_pieces_are_the_whole(
    worlds: Worlds, reader: SnapshotReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laying, "_MOST_ROWS", 7)
    monkeypatch.setattr(laying, "_LEAST_ROWS", 7)
    table = draw(100, versions=EQUALLY_WIDE)
    questions = RowQuestions("a table", table.schema, None, "version")
    columns = questions.read(table.combine_chunks().to_batches()[0], 0)
    layer = RowLayer(reader.load(EQUALLY_WIDE), reader.fetch, KnowledgeForm())
    answers = list(layer.lay(columns))
    assert [len(answer.status) for answer in answers] == [7] * 14 + [2]
    rows, status = expected(table, worlds_of(table, worlds))
    assert [row.tobytes() for answer in answers for row in answer.knowledge] == rows
    assert [s for answer in answers for s in answer.status.tolist()] == status
    counted = [[sum(s[part] == code for s in status) for code in range(3)] for part in range(4)]
    assert layer.counts.tolist() == counted


def test_widths(reader: SnapshotReader) -> None:
    generations = reader.load(["half"])
    assert RowLayer(generations, reader.fetch, KnowledgeForm()).spans["user_category"] == (12, 15)
    form = KnowledgeForm(parts=("user_category",))
    assert RowLayer(generations, reader.fetch, form).spans == {"user_category": (0, 3)}
    with pytest.raises(CommandError, match="the table names versions of unequal widths"):
        RowLayer(reader.load(["half", "wide"]), reader.fetch, KnowledgeForm())
