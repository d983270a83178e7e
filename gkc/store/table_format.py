"""The table file, by its bytes: an immutable file of rows in ascending order of their ids' hashes.

One page of header, then sections that each begin on a page::

    starts            uint32: for every bucket, the top bits of the hash, the first row that is not
                      before it; one entry more than there are buckets
    ids               int64 per row: the id, or the key of a string
    id_offsets        int64 per row, and one: where a string begins in id_bytes    ids are strings
    id_bytes          the strings of all rows, one after the other                 ids are strings
    categories        int64 per row: the category, or its place in the dictionary  items
    has_category      uint8 per row                                                items
    category_offsets  int64 per category, and one: where it begins in the next     dictionary
    category_bytes    all categories, in ascending order of their bytes            dictionary
    rows              stride bytes per row                                         items
    offsets           int64 per row, and one: where a record begins                users
    records           the records, each a multiple of 8 bytes long                 users

The header is written last, so a file without a good one was never finished.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from msgspec import Meta

from gkc.errors import LayoutError, RecordError
from gkc.store.sealed import Count, Count32, Crc32, Record, seal, unseal
from gkc.strings import IdType

TableKind = Literal["items", "users"]

TABLE_FORMAT: Final = "gkc-table/2"
PAGE_BYTES: Final = 4096
MAX_ROWS: Final = 1 << 32

_MAGIC: Final = b"gkctable"
_PREFIX: Final = struct.Struct("<8sI4x")


@dataclass(frozen=True, slots=True)
class TableShape:
    """What must be known of a table before its first row is written.

    Attributes
    ----------
    kind : {"items", "users"}
    count : int
        Rows.
    stride : int
        Bytes of one stored K_i; 0 in a table of users.
    id_type : {"int64", "string"}
    id_bytes : int
        Of all ids together, if they are strings.
    category_type : {"int64", "string"}
        Of items' own categories.
    categories, category_bytes : int
        Categories in the dictionary, and their bytes together.

    Raises
    ------
    LayoutError
        If there are 2^32 rows or more.
    """

    kind: TableKind
    count: int
    stride: int = 0
    id_type: IdType = "int64"
    id_bytes: int = 0
    category_type: IdType = "int64"
    categories: int = 0
    category_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be stored."""
        if self.count >= MAX_ROWS:
            raise LayoutError(
                f"{self.count} {self.kind} are too many for one generation: "
                "it takes less than 2^32 (4,294,967,296)"
            )

    def lengths(self) -> dict[str, int]:
        """Return the bytes of each section, in their order; 0 for the records of users."""
        lengths = {
            "starts": 4 * ((1 << bucket_bits(self.count)) + 1),
            "ids": 8 * self.count,
        }
        if self.id_type == "string":
            lengths |= {"id_offsets": 8 * (self.count + 1), "id_bytes": self.id_bytes}
        if self.kind == "users":
            return lengths | {"offsets": 8 * (self.count + 1), "records": 0}
        lengths |= {"categories": 8 * self.count, "has_category": self.count}
        if self.category_type == "string":
            lengths |= {
                "category_offsets": 8 * (self.categories + 1),
                "category_bytes": self.category_bytes,
            }
        return lengths | {"rows": self.count * self.stride}

    def offsets(self) -> dict[str, int]:
        """Return where each section begins."""
        offsets, end = {}, PAGE_BYTES
        for name, length in self.lengths().items():
            offsets[name] = end
            end += -(-length // PAGE_BYTES) * PAGE_BYTES
        return offsets

    def size_bytes(self) -> int:
        """Return the bytes of the whole file, a user's records left out."""
        lengths, offsets = self.lengths(), self.offsets()
        last = next(reversed(offsets))
        return offsets[last] + lengths[last]


def bucket_bits(count: int) -> int:
    """Return how many top bits of a hash number its bucket in a table of ``count`` rows.

    So many that a bucket has 1 to 2 ids on average; at least one.
    """
    return max(1, (max(count, 1) - 1).bit_length() - 1)


class Section(Record, frozen=True):
    """Where a section lies in the file, and the CRC-32 of its bytes."""

    offset: Count
    length: Count
    crc32: Crc32


class TableHeader(Record, frozen=True):
    """What the first page of a table file says.

    Attributes
    ----------
    kind : {"items", "users"}
    generation : str
    count : int
        Rows.
    stride : int
        Bytes of one stored K_i; 0 in a table of users.
    size_bytes : int
        Of the whole file.
    sections : mapping of str to Section
    id_type, category_type : {"int64", "string"}
    categories : int
        In the dictionary.
    """

    kind: TableKind
    generation: str
    count: Count32
    stride: Annotated[int, Meta(ge=0, le=1 << 23)]
    size_bytes: Count
    sections: dict[str, Section]
    id_type: IdType = "int64"
    category_type: IdType = "int64"
    categories: Count32 = 0

    def to_page(self) -> bytes:
        """Return the file's first page."""
        text = seal(self, TABLE_FORMAT)
        return (_PREFIX.pack(_MAGIC, len(text)) + text).ljust(PAGE_BYTES, b"\0")

    @property
    def crc32(self) -> int:
        """CRC-32 of the first page, and so, by the sections' checksums in it, of the whole file."""
        return zlib.crc32(self.to_page())

    @property
    def shape(self) -> TableShape:
        """What the table was written for."""
        return TableShape(
            kind=self.kind,
            count=self.count,
            stride=self.stride,
            id_type=self.id_type,
            id_bytes=self._length("id_bytes"),
            category_type=self.category_type,
            categories=self.categories,
            category_bytes=self._length("category_bytes"),
        )

    @classmethod
    def from_page(cls, page: bytes) -> Self:
        """Read the file's first page, and check that its sections are where they belong.

        Raises
        ------
        RecordError
            If it is damaged, or was never written; names the field.
        """
        if len(page) < PAGE_BYTES:
            raise RecordError("is shorter than its header")
        magic, length = _PREFIX.unpack_from(page)
        text = page[_PREFIX.size : _PREFIX.size + length]
        if magic != _MAGIC or len(text) != length:
            raise RecordError("has no intact header")
        header = unseal(text, TABLE_FORMAT, cls)
        header._check_sections()
        return header

    def _length(self, section: str) -> int:
        return self.sections[section].length if section in self.sections else 0

    def _check_sections(self) -> None:
        """Check that every section is as long as the counts say and begins where it must."""
        lengths, offsets = self.shape.lengths(), self.shape.offsets()
        if self.sections.keys() != lengths.keys():
            raise RecordError(f"$.sections: are {', '.join(self.sections)}")
        last = next(reversed(offsets))
        for name, section in self.sections.items():
            is_open = name == last == "records"
            if section.offset != offsets[name] or (section.length != lengths[name] and not is_open):
                raise RecordError(f"$.sections.{name}: lies elsewhere than its table's rows say")
        if self.size_bytes != self.sections[last].offset + self.sections[last].length:
            raise RecordError("$.size_bytes: is not where the last section ends")
