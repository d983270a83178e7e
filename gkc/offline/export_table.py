"""A generation as three Parquet tables: users, items, and pairs of user and category."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gkc.arrays import U8
from gkc.errors import GenerationCorruptError, TableFileError
from gkc.offline.form import fixed_lists
from gkc.offline.parquet import parquet_writer, replacing_folder
from gkc.offline.questions import CATEGORY, ITEM, USER, id_types
from gkc.offline.snapshot import Snapshot, SnapshotReader, StoreAddress
from gkc.offline.sources import Sources
from gkc.offline.spilled import Progress
from gkc.store import ElementType, ItemBlock, ItemTable, UserBlock, decode_vectors
from gkc.strings import IdType

_KNOWLEDGE: Final = "knowledge"
_ITEMS_AT_ONCE: Final = 16_384
_GROUP_BYTES: Final = 32 << 20
"""Of a row group, about."""
_ID_TYPES: Final[Mapping[IdType, pa.DataType]] = {"int64": pa.int64(), "string": pa.string()}
_NUMBER_TYPES: Final[Mapping[ElementType, pa.DataType]] = {
    "f16": pa.float16(),
    "f32": pa.float32(),
    "int8": pa.float32(),
}


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was written: the generation, and the rows of each table."""

    generation: str
    users: int
    items: int
    user_categories: int


class TableExport:
    """An export of a version's generation that may begin; nothing was written yet.

    Parameters
    ----------
    store : StoreAddress
    version : str
    target : Path
        The folder to make.

    Attributes
    ----------
    rows : int
        How many users and items `run` tells its progress of, in all.

    Raises
    ------
    TableFileError
        If the folder is there.
    StoreError
        If there is no such version, or the store cannot be read.
    """

    def __init__(self, store: StoreAddress, version: str, target: Path) -> None:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise TableFileError(str(target), "is there already; name a folder that is not")
        self._snapshot = Snapshot.take(store)
        self._version, self._target = version, target
        with closing(SnapshotReader(self._snapshot)) as reader:
            self._manifest = reader.load([version])[version].manifest
        self.rows = self._manifest.totals.users + self._manifest.totals.items

    def run(self, progress: Progress) -> TableReport:
        """Write the folder.

        Raises
        ------
        TableFileError
            If the file system refuses it.
        StoreError
            If the store fails, is damaged, or no longer keeps the generation.
        """
        with (
            closing(SnapshotReader(self._snapshot)) as reader,
            replacing_folder(self._target) as folder,
        ):
            items = reader.load([self._version])[self._version].items
            names = pa.array(items.dictionary(), pa.string())
            self._write_items(items, names, folder, progress)
            self._write_users(reader.users(self._version), names, folder, progress)
            reader.require_kept([self._version])
        totals = self._manifest.totals
        return TableReport(
            self._manifest.generation, totals.users, totals.items, totals.user_categories
        )

    def _write_items(
        self, items: ItemTable, names: pa.Array, folder: Path, progress: Progress
    ) -> None:
        spec = self._manifest.spec
        with self._writer(folder / "items.parquet", [ITEM, CATEGORY], spec.dim) as writer:
            for start in range(0, items.count, _ITEMS_AT_ONCE):
                rows = np.arange(start, min(start + _ITEMS_AT_ONCE, items.count), dtype=np.int64)
                items.require_whole()
                block = items.take(rows)
                categories = pa.array(block.categories, mask=~block.has_category)
                vectors = _vectors(block.k_i, spec.element_type, spec.dim)
                writer.add(_ids(block), self._named(categories, names), *vectors)
                progress(len(rows))

    def _write_users(
        self, blocks: Iterable[UserBlock], names: pa.Array, folder: Path, progress: Progress
    ) -> None:
        spec = self._manifest.spec
        kind, pairs_path = spec.element_type, folder / "user_categories.parquet"
        with (
            self._writer(folder / "users.parquet", [USER], spec.dim) as users,
            self._writer(pairs_path, [USER, CATEGORY], spec.category_dim) as pairs,
        ):
            for block in blocks:
                ids = _ids(block)
                users.add(ids, *_vectors(block.k_u, kind, spec.dim))
                of_pairs = ids.take(np.repeat(np.arange(len(ids)), np.diff(block.pair_offsets)))
                categories = self._named(pa.array(block.categories), names)
                pairs.add(of_pairs, categories, *_vectors(block.k_uc, kind, spec.category_dim))
                progress(len(ids))

    def _named(self, categories: pa.Array, names: pa.Array) -> pa.Array:
        """Return the strings that stored categories stand for, if they stand for some."""
        if self._manifest.spec.category_id_type == "int64":
            return categories
        try:
            return names.take(categories)
        except IndexError as exc:
            what = "a category is not in its dictionary"
            raise GenerationCorruptError(self._manifest.generation, what) from exc

    @contextmanager
    def _writer(self, path: Path, ids: Sequence[str], width: int) -> Iterator[_GroupWriter]:
        """Give what writes a table of ids and, if they have numbers, vectors."""
        types = id_types(self._manifest.spec)
        fields = [pa.field(name, _ID_TYPES[types[name]]) for name in ids]
        if width:
            held = _NUMBER_TYPES[self._manifest.spec.element_type]
            fields.append(pa.field(_KNOWLEDGE, pa.list_(held, width)))
        metadata = Sources.of({self._version: self._manifest}).metadata()
        schema = pa.schema(fields, metadata=metadata)
        with parquet_writer(path, schema, [_KNOWLEDGE]) as writer:
            groups = _GroupWriter(writer, schema)
            yield groups
            groups.flush()


class _GroupWriter:
    """Writes rows that come in small batches as row groups of a size that readers like."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, *columns: pa.Array) -> None:
        """Take rows."""
        batch = pa.RecordBatch.from_arrays(list(columns), schema=self._schema)
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting, self._bytes = [], 0


def _ids(block: ItemBlock | UserBlock) -> pa.Array:
    return pa.array(block.ids) if block.names is None else pa.array(block.names, pa.string())


def _vectors(stored: U8, element_type: ElementType, width: int) -> list[pa.Array]:
    """Return stored vectors as a column, none if they have no numbers."""
    if not width:
        return []
    if element_type == "f16":
        return [fixed_lists(np.ascontiguousarray(stored).view("<f2"))]
    return [fixed_lists(decode_vectors(stored, element_type, width))]
