"""Knowledge beside the rows of Arrow record batches, in this process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from gkc.center.question import AnswerType, RowsAnswer
from gkc.errors import CommandError, TableFileError
from gkc.knowledge import PARTS, Part
from gkc.offline.form import KnowledgeForm
from gkc.offline.laying import RowLayer
from gkc.offline.questions import RowQuestions
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress
from gkc.offline.sources import Sources

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
        As ``table.to_batches()`` gives them; all of one schema, with ``user_id``, ``item_id``
        and, if you like, ``category_id``.
    store : str
        URL.
    version, version_column : str, optional
        The version of all rows, or the column that names each row's: one of both.
    dtype : {"f32", "f16"}
    parts : sequence of str
        Which parts; always in the order user, item, user_item, user_category.
    prefix : str
        Of the names of both columns.
    namespace : str
    mirror_dir : Path, optional
        Where this host keeps copies of item tables of a store behind a network.

    Yields
    ------
    RecordBatch
        The columns given, then ``knowledge`` and ``status``. The schema's metadata says where
        they come from, as that of the files of ``gkc join``: with ``version_column`` of all
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
    _require_batches(batches)
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
    sources : Sources
        What rows come from: of the version, or of all that the store had.

    Raises
    ------
    StoreError
        If the store had no such version, or a manifest cannot be read.
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
        versions = list(snapshot.generations) if version is None else [version]
        with closing(SnapshotReader(snapshot)) as reader:
            self._manifests = reader.manifests(versions)
        self.sources = Sources.of(self._manifests)

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
        _require_text("store", store.url, "file:./gkc-data")
        for name, given in (("version", version), ("version_column", version_column)):
            if given is not None:
                _require_text(name, given, "20211220" if name == "version" else "version")
        form = KnowledgeForm.of(dtype, parts, prefix)
        if (version is None) == (version_column is None):
            raise CommandError("name either a version or the column of versions")
        return cls(Snapshot.take(store), form, version, version_column)

    def add_to(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches that have rows, with their knowledge and statuses."""
        metadata, before = self.sources.metadata(), None
        for batch, answers in self.answer(_numbered(batches)):
            spans = answers[0].spans
            schema = self.form.joined(batch.schema, spans, metadata)
            if before is not None and before != (schema, spans):
                problem = "they differ in their columns, or in the width of their versions' rows"
                raise TableFileError(_BATCHES, problem)
            before = schema, spans
            added = [column.combine_chunks() for column in self.form.columns(answers)]
            yield pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)

    def answer(
        self, batches: Iterable[NumberedBatch]
    ) -> Iterator[tuple[pa.RecordBatch, list[RowsAnswer]]]:
        """Yield each batch that has rows, and the answers to its rows, some after others."""
        with closing(SnapshotReader(self._snapshot)) as reader:
            for table, first, batch in batches:
                if batch.num_rows:
                    held = zip(batch.schema.names, batch.columns, strict=True)
                    nulls = {name for name, ids in held if ids.null_count == len(ids)}
                    questions = self.questions(table, batch.schema, nulls)
                    columns = questions.read(batch, first)
                    generations = reader.load(columns.versions)
                    layer = RowLayer(generations, reader.fetch, self.form)
                    for version in columns.versions:
                        questions.require_types(self._manifests[version].spec)
                    yield batch, list(layer.lay(columns))

    def questions(
        self, table: str, schema: pa.Schema, null_columns: Collection[str]
    ) -> RowQuestions:
        """Return what reads the questions of a table of this schema, as `RowQuestions`.

        Raises
        ------
        TableFileError
            If it lacks columns, has those already that are added, or ids are not of the type that
            those of the version are.
        """
        column, added = self._version_column, self.form.names
        questions = RowQuestions(table, schema, self._version, column, added, null_columns)
        if self._version is not None:
            questions.require_types(self._manifests[self._version].spec)
        return questions


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[NumberedBatch]:
    first = 0
    for batch in batches:
        if not isinstance(batch, pa.RecordBatch):
            raise _no_batches(f"{type(batches).__name__} that gives a {type(batch).__name__}")
        yield _BATCHES, first, batch
        first += batch.num_rows


def _require_batches(batches: Any) -> None:  # noqa: ANN401 - whatever a caller gives
    """Refuse what gives columns, letters or nothing where record batches are wanted."""
    if isinstance(batches, pa.Table | pa.RecordBatch | str) or not isinstance(batches, Iterable):
        raise _no_batches(type(batches).__name__)


def _no_batches(given: str) -> CommandError:
    return CommandError(
        f"record batches are wanted, not a {given}; pyarrow's table.to_batches() makes them"
    )


def _require_text(name: str, given: Any, example: str) -> None:  # noqa: ANN401 - as above
    if not isinstance(given, str):
        kind = type(given).__name__
        raise CommandError(f"{name} is a str such as {example!r}, not {given!r} ({kind})")
