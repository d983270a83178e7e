"""Knowledge beside the rows of Arrow record batches, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pyarrow as pa

from gkc.center.question import AnswerType, RowsAnswer
from gkc.errors import CommandError, TableFileError
from gkc.knowledge import PARTS, Part
from gkc.offline.form import VERSIONS_KEY, KnowledgeForm
from gkc.offline.laying import RowLayer
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress

NumberedBatch = tuple[str, int, pa.RecordBatch]
"""What messages call its table, the row of it that comes first, and the rows."""

_BATCHES: Final = "the batches"


def join_batches(
    batches: Iterable[pa.RecordBatch],
    *,
    store: str,
    version: str | None = None,
    version_column: str | None = None,
    dtype: AnswerType = "f32",
    parts: Sequence[Part] = PARTS,
    prefix: str = "",
    namespace: str = "default",
    mirror_dir: Path | None = None,
) -> Iterator[pa.RecordBatch]:
    """Add each row's knowledge and status, as ``gkc join`` does.

    Parameters
    ----------
    batches : iterable of RecordBatch
        All of one schema, with ``user_id``, ``item_id`` and, if you like, ``category_id``.
    store : str
        URL.
    version, version_column : str, optional
        The version of all rows, or the column that names each row's: one of both.
    dtype : {"f32", "f16"}
    parts : sequence of str
        Which parts; they come in row order.
    prefix : str
        Of the names of both columns.
    namespace : str
    mirror_dir : Path, optional
        Where this host keeps copies of item tables of a store behind a network.

    Yields
    ------
    RecordBatch
        The columns given, then ``knowledge`` and ``status``. The schema's metadata has under
        ``gkc.versions`` the generation of the version; with ``version_column`` those of all
        versions that the store had at the beginning.

    Raises
    ------
    CommandError
        If an argument is wrong, or versions of unequal widths meet.
    TableFileError
        If a column is missing or holds something else, or an id is null.
    StoreError
        If there is no such version, or the store cannot be read.
    """
    joined = Joined.of(
        StoreAddress(store, namespace, mirror_dir), version, version_column, dtype, parts, prefix
    )
    return joined.add_to(batches)


class Joined:
    """Adds knowledge from one snapshot to batches; can be sent to other processes.

    Parameters
    ----------
    snapshot : Snapshot
    form : KnowledgeForm
    version, version_column : str or None
        One of both.

    Attributes
    ----------
    form : KnowledgeForm

    Raises
    ------
    VersionNotFoundError
        If the store had no such version.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        form: KnowledgeForm,
        version: str | None,
        version_column: str | None,
    ) -> None:
        self.form = form
        self._snapshot = snapshot
        self._version = version
        self._version_column = version_column
        self._generations = snapshot.generations
        if version is not None:
            self._generations = {version: snapshot.generation(version)}

    @classmethod
    def of(
        cls,
        store: StoreAddress,
        version: str | None,
        version_column: str | None,
        dtype: str,
        parts: Sequence[str],
        prefix: str,
    ) -> Joined:
        """Check what a caller asks for, and take a snapshot of the store.

        Raises
        ------
        CommandError, StoreError
            As `join_batches`.
        """
        form = KnowledgeForm.of(dtype, parts, prefix)
        if (version is None) == (version_column is None):
            raise CommandError("name either a version or the column of versions")
        return cls(Snapshot.take(store), form, version, version_column)

    def add_to(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches that have rows, with their knowledge and statuses."""
        metadata, joined = {VERSIONS_KEY: json.dumps(dict(self._generations))}, None
        for batch, answers in self.answer(_numbered(batches)):
            width = answers[0].knowledge.shape[1]
            schema = self.form.joined(batch.schema, width, metadata)
            if joined is not None and schema != joined:
                problem = "they differ in their columns, or in the width of their versions' rows"
                raise TableFileError(_BATCHES, problem)
            joined = schema
            added = [column.combine_chunks() for column in self.form.columns(answers)]
            yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    def answer(
        self, batches: Iterable[NumberedBatch]
    ) -> Iterator[tuple[pa.RecordBatch, list[RowsAnswer]]]:
        """Yield each batch that has rows, and the answers to its rows, some after others."""
        with closing(SnapshotReader(self._snapshot)) as reader:
            for table, first, batch in batches:
                if batch.num_rows:
                    columns = self.questions(table, batch.schema).read(batch, first)
                    layer = RowLayer(reader.load(columns.versions), reader.fetch, self.form)
                    yield batch, list(layer.lay(columns))

    def questions(self, table: str, schema: pa.Schema) -> RowQuestions:
        """Return what reads the questions of a table of this schema.

        Raises
        ------
        TableFileError
            If it lacks columns, or has those already that are added.
        """
        self.form.check_free(table, schema)
        return RowQuestions(table, schema, self._version, self._version_column)


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[NumberedBatch]:
    first = 0
    for batch in batches:
        yield _BATCHES, first, batch
        first += batch.num_rows
