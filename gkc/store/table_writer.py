"""Writing tables, block by block, in memory that does not grow with the table, onto any target."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import Annotated, Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from gkc.arrays import I64, U32, U64
from gkc.errors import GenerationImmutableError, LayoutError, RecordError
from gkc.store.codec import ItemBlock
from gkc.store.ids import check_strings, hash_ids, hash_strings
from gkc.store.sealed import Count, Count32, Crc32, Record
from gkc.store.table_format import Section, TableHeader, TableShape, bucket_bits
from gkc.strings import IdType

Bytes = bytes | npt.NDArray[np.generic]


class TableTarget(Protocol):
    """Where the bytes of a table go."""

    @property
    def piece_bytes(self) -> int:
        """What is written ends where a piece of so many bytes does, as far as may be."""
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes at a place in the table; no place is written twice but after an interrupt."""
        ...

    def sync(self) -> None:
        """Make durable what was written."""
        ...


class MemoryTarget:
    """A table of a known size in memory.

    Attributes
    ----------
    memory : mmap
    """

    piece_bytes: Final = 1 << 20

    def __init__(self, size_bytes: int) -> None:
        fd = os.memfd_create("gkc-items", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size_bytes)
            self.memory = mmap.mmap(fd, size_bytes)
        finally:
            os.close(fd)

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes into memory."""
        self.memory[offset : offset + len(data)] = bytes(data)

    def sync(self) -> None:
        """Do nothing: memory is not durable."""


class OrderProgress(Record, frozen=True):
    """How far rows have come: their number, and the last one's place in the order."""

    rows: Count32 = 0
    last_hash: Annotated[int, Meta(ge=-1)] = -1
    last_name: bytes = b""


class RowOrder:
    """Sees to it that rows come in the stored order, each once, and no more than were promised.

    Parameters
    ----------
    kind : str
        What the rows are, for messages.
    count : int
        How many there will be.
    id_type : {"int64", "string"}
    progress : OrderProgress, optional
        What an interrupted writer stored.
    """

    def __init__(
        self, kind: str, count: int, id_type: IdType, progress: OrderProgress | None = None
    ) -> None:
        self._kind = kind
        self._count = count
        self._id_type = id_type
        self.progress = progress or OrderProgress()

    def check(self, ids: I64, names: Sequence[bytes] | None) -> U64:
        """Return the hashes of more rows, having checked that they may follow.

        Raises
        ------
        LayoutError
            If they may not.
        """
        rows, kind = self.progress.rows, self._kind
        if rows + len(ids) > self._count:
            raise LayoutError(f"more than the {self._count} {kind} that were promised")
        if (names is None) != (self._id_type == "int64"):
            raise LayoutError(f"the ids of these {kind} are not of type {self._id_type}")
        if names is not None:
            check_strings(names, kind)
            if not np.array_equal(hash_strings(names), ids):
                raise LayoutError(f"the keys of these {kind} are not those of their strings")
        hashes = hash_ids(ids)
        if not self._is_in_order(hashes, names):
            raise LayoutError(f"{kind} must come in ascending order of hash_ids, each once")
        return hashes

    def take(self, hashes: U64, names: Sequence[bytes] | None) -> None:
        """Count rows that were checked."""
        if len(hashes):
            self.progress = OrderProgress(
                self.progress.rows + len(hashes),
                int(hashes[-1]),
                names[-1] if names is not None else b"",
            )

    def require_all(self) -> None:
        """Raise LayoutError if there are fewer rows than were promised."""
        if self.progress.rows != self._count:
            raise LayoutError(
                f"{self.progress.rows} {self._kind} were written of the {self._count} "
                "that were promised"
            )

    def _is_in_order(self, hashes: U64, names: Sequence[bytes] | None) -> bool:
        if not len(hashes):
            return True
        last = (self.progress.last_hash, self.progress.last_name)
        if names is None:
            return int(hashes[0]) > last[0] and bool((hashes[1:] > hashes[:-1]).all())
        rows = zip(hashes.tolist(), names, strict=True)
        return all(before < after for before, after in pairwise(chain([last], rows)))


class SectionProgress(Record, frozen=True):
    """Bytes written of a section, and their CRC-32."""

    length: Count
    crc32: Crc32


class TableProgress(Record, frozen=True, tag="table"):
    """How much of an unfinished table is stored, enough to go on writing it."""

    order: OrderProgress
    sections: dict[str, SectionProgress]


class _SectionStream:
    """Appends to one section of a table that is written section by section.

    What is appended is written in pieces that end where those of the target do: in a file those are
    huge pages, in which the kernel then keeps it (on file systems with large folios), and random
    rows are found faster (docs/decisions/0015-compiled-loops.md).
    """

    def __init__(
        self, target: TableTarget, offset: int, progress: SectionProgress | None = None
    ) -> None:
        self._target = target
        self.offset = offset
        self.length = progress.length if progress else 0
        self.crc32 = progress.crc32 if progress else 0
        self._pending = bytearray()

    def append(self, data: Bytes) -> None:
        """Take bytes behind the others, and write what fills pieces."""
        if not len(data):
            return
        view = memoryview(data if isinstance(data, bytes) else data.data).cast("B")
        self.crc32 = zlib.crc32(view, self.crc32)
        self.length += len(view)
        self._pending += view
        beyond = (self.offset + self.length) % self._target.piece_bytes
        if beyond < len(self._pending):
            self._write(len(self._pending) - beyond)

    def flush(self) -> None:
        """Write all that was appended."""
        self._write(len(self._pending))

    def _write(self, size: int) -> None:
        if not size:
            return
        at = self.offset + self.length - len(self._pending)
        with memoryview(self._pending) as pending, pending[:size] as piece:
            self._target.write(at, piece)
        del self._pending[:size]


class StartsBuilder:
    """The section ``starts`` of a table, from hashes that arrive in ascending blocks."""

    def __init__(self, count: int, rows: int = 0, emitted: int = 0) -> None:
        bits = bucket_bits(count)
        self._shift = np.uint64(64 - bits)
        self._size = (1 << bits) + 1
        self._rows = rows
        self._emitted = emitted

    def add(self, hashes: U64) -> U32:
        """Return the entries that a block of hashes settles: up to the bucket of its last one."""
        buckets = (hashes >> self._shift).view(np.int64)
        settled = np.arange(self._emitted, int(buckets[-1]) + 1, dtype=np.int64)
        starts = np.searchsorted(buckets, settled) + self._rows
        self._rows += len(hashes)
        self._emitted += len(settled)
        return starts.astype("<u4")

    def rest(self) -> U32:
        """Return the entries after the last row's bucket."""
        return np.full(self._size - self._emitted, self._rows, dtype="<u4")


class _TableWriter:
    """Writes one table; the header last, so that nothing unfinished can be opened."""

    def __init__(
        self,
        target: TableTarget,
        generation: str,
        shape: TableShape,
        resume: TableProgress | None = None,
    ) -> None:
        self._target = target
        self._generation = generation
        self._shape = shape
        self._lengths = shape.lengths()
        self._is_finished = False
        done = resume.sections if resume else {}
        order = resume.order if resume else None
        self._order = RowOrder(shape.kind, shape.count, shape.id_type, order)
        self._streams = {
            name: _SectionStream(target, offset, done.get(name))
            for name, offset in shape.offsets().items()
        }
        if resume:
            self._require_consistent(resume)
        emitted = self._streams["starts"].length // 4
        self._starts = StartsBuilder(shape.count, self.rows, emitted)
        if not resume:
            for name, stream in self._streams.items():
                if name.endswith("offsets"):
                    stream.append(np.zeros(1, dtype="<i8"))

    @property
    def rows(self) -> int:
        """Rows taken so far."""
        return self._order.progress.rows

    @property
    def written_bytes(self) -> int:
        """Bytes taken so far."""
        return sum(stream.length for stream in self._streams.values())

    def sync(self) -> TableProgress:
        """Make what was taken durable and return what a later writer needs to go on from it."""
        self._flush()
        self._target.sync()
        sections = {name: SectionProgress(s.length, s.crc32) for name, s in self._streams.items()}
        return TableProgress(self._order.progress, sections)

    def finish(self) -> TableHeader:
        """Write what is left, make it durable, and write the header.

        Raises
        ------
        LayoutError
            If another number of rows, or of bytes of ids, was written than was promised.
        GenerationImmutableError
            If the table was finished before.
        """
        self._require_unfinished()
        self._order.require_all()
        self._streams["starts"].append(self._starts.rest())
        self._require_promised_lengths()
        self._flush()
        header = TableHeader(
            kind=self._shape.kind,
            generation=self._generation,
            count=self._shape.count,
            stride=self._shape.stride,
            size_bytes=max(s.offset + s.length for s in self._streams.values()),
            sections={
                name: Section(s.offset, s.length, s.crc32) for name, s in self._streams.items()
            },
            id_type=self._shape.id_type,
            category_type=self._shape.category_type,
            categories=self._shape.categories,
        )
        self._target.sync()
        self._target.write(0, memoryview(header.to_page()))
        self._is_finished = True
        return header

    def _append(
        self, ids: I64, names: Sequence[bytes] | None, columns: Mapping[str, Bytes]
    ) -> None:
        """Append rows: their ids, and for each other section the bytes that belong to them."""
        self._require_unfinished()
        hashes = self._order.check(ids, names)
        if not len(ids):
            return
        self._streams["starts"].append(self._starts.add(hashes))
        self._streams["ids"].append(np.ascontiguousarray(ids, dtype="<i8"))
        if names is not None:
            self._streams["id_offsets"].append(_ends(self._streams["id_bytes"].length, names))
            self._streams["id_bytes"].append(b"".join(names))
        for name, data in columns.items():
            self._streams[name].append(data)
        self._order.take(hashes, names)

    def _flush(self) -> None:
        for stream in self._streams.values():
            stream.flush()

    def _require_unfinished(self) -> None:
        if self._is_finished:
            raise GenerationImmutableError(self._generation)

    def _require_consistent(self, resume: TableProgress) -> None:
        """Raise RecordError if a note of progress is none of this table."""
        rows = resume.order.rows
        lengths = replace(self._shape, count=rows).lengths()
        for name, stream in self._streams.items():
            if name in ("starts", "id_bytes"):  # of so many rows, this only tells who wrote them
                fits = stream.length <= self._lengths[name]
            else:
                fits = name == "records" or stream.length == lengths[name]
            if not fits:
                raise RecordError(f"$.sections.{name}.length: is not that of {rows} rows")

    def _require_promised_lengths(self) -> None:
        for name, stream in self._streams.items():
            if stream.length != self._lengths[name] and name != "records":
                raise LayoutError(
                    f"{stream.length} bytes of section {name} were written of the "
                    f"{self._lengths[name]} that were promised"
                )


class ItemTableWriter(_TableWriter):
    """Writes the table of a generation's items, in ascending order of `hash_ids`.

    Parameters
    ----------
    target : TableTarget
    generation : str
    shape : TableShape
        What there will be.
    resume : TableProgress, optional
        What an interrupted writer of this very table had stored.
    categories : sequence of bytes
        The dictionary: all categories in ascending order of their bytes, where they are strings.

    Raises
    ------
    LayoutError
        If the dictionary is not the one that was promised.
    """

    def __init__(
        self,
        target: TableTarget,
        generation: str,
        shape: TableShape,
        resume: TableProgress | None = None,
        categories: Sequence[bytes] = (),
    ) -> None:
        super().__init__(target, generation, shape, resume)
        if shape.category_type == "string" and not resume:
            self._write_dictionary(categories)

    def append(self, block: ItemBlock) -> None:
        """Append items.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another width or type.
        GenerationImmutableError
            If the table is finished.
        """
        if block.k_i.shape != (len(block.ids), self._shape.stride):
            raise LayoutError(
                f"items of shape {block.k_i.shape} in a table of {self._shape.stride} bytes"
            )
        if self._shape.category_type == "string":
            places = block.categories[block.has_category]
            if ((places < 0) | (places >= self._shape.categories)).any():
                raise LayoutError("items have categories that are not in the dictionary")
        columns: dict[str, Any] = {
            "categories": np.ascontiguousarray(block.categories, dtype="<i8"),
            "has_category": block.has_category.astype(np.uint8),
            "rows": np.ascontiguousarray(block.k_i),
        }
        self._append(block.ids, block.names, columns)

    def _write_dictionary(self, categories: Sequence[bytes]) -> None:
        check_strings(categories, "category")
        if len(categories) != self._shape.categories or list(categories) != sorted(set(categories)):
            raise LayoutError(
                f"the dictionary must be {self._shape.categories} categories in ascending order"
            )
        self._streams["category_offsets"].append(_ends(0, categories))
        self._streams["category_bytes"].append(b"".join(categories))


class UserTableWriter(_TableWriter):
    """Writes the table of a generation's users, in ascending order of `hash_ids`.

    Parameters
    ----------
    target : TableTarget
    generation : str
    shape : TableShape
        What there will be.
    resume : TableProgress, optional
        What an interrupted writer of this very table had stored.
    """

    def append(
        self, ids: I64, records: Sequence[bytes], names: Sequence[bytes] | None = None
    ) -> None:
        """Append users and their packed records.

        Raises
        ------
        LayoutError
            If they are out of order, too many, or of another type.
        GenerationImmutableError
            If the table is finished.
        """
        ends = _ends(self._streams["records"].length, records)
        self._append(ids, names, {"offsets": ends, "records": b"".join(records)})


def _ends(start: int, parts: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return where each part ends, if the first of them begins at ``start``."""
    lengths = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    return (start + np.cumsum(lengths, dtype=np.int64)).astype("<i8")
