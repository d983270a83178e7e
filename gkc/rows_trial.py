"""Fixed questions to the compiled rule, whose answers' bits are recorded: asked at each start.

They see every loop and branch of ``rows.c`` that gives an answer: each status, users with none to
five pairs asked for every category between them, more items than are looked up at once, vectors
longer than what is computed at once, each stored type in each type of answer, halves of all sizes,
strings of all lengths, some of which have one key.
All of a trial lies in one piece of memory, so that a program without Python can ask it as well.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gkc.errors import RowRuleError
from gkc.knowledge import PARTS, Part, part_spans
from gkc.rows_library import LIBRARY, TYPES, build, load

RECORDED: Final = 1_312_536_090
"""CRC-32 of the answers; ``python -m gkc.rows_trial`` tells what it is with a changed rule."""

_IDS: Final = (0, 15, 10, 7, 3, 14, 11, 12, 1, 9, 5, 4, 6, 8, 2, 13)
_STARTS: Final = (0, 5, 8, 9, 9, 10, 12, 16, 16)
"""Items in the order of their hashes, and where each of eight buckets begins."""
_BUCKET_BITS: Final = 3
_USERS: Final = 7
"""The first has no pair, each one more than the one before; the last one is not there."""
_ASKED: Final = [(u, c) for u in range(_USERS) for c in range(-1, 2 * (u % (_USERS - 1)) + 1)]
"""Users and categories of rows: those of each user's pairs, and those between."""
_CATEGORY: Final = 1 << 59
"""Categories are multiples of it, so that all their bits count."""
_DIM: Final = 21
_CATEGORY_DIM: Final = 13
_WIDE: Final = 300
_MANY: Final = 260
_SLOTS: Final = 128
_UINT64: Final = (1 << 64) - 1
_ONE_KEY: Final = (
    b"the samekey, too", b"pcrjcphj{\tA/TpoR", b"tpqwvpdp[U<\x1a\x10\x0cD\n", b"guzriyefEAc>5-@F"
)  # fmt: skip
_NAMES: Final = (b"a", b"a\0", b"12345678", b"\xc3\xa9 is e", b"x" * 128, *_ONE_KEY[:3])
_STRANGERS: Final = (b"", b"b", b"a\0\0", b"12345679", b"x" * 127, b"x" * 127 + b"y", _ONE_KEY[3])
_QUOTED: Final = b'"a" ,\t"1234567","12345678","123456789"\r\n,"\xc3\xa9\xff" '
_TEXTS: Final = (
    (_QUOTED, 5),
    (b'"%s"' % (b"x" * 128), 1),
    *((b'"%s"' % text, -1) for text in (b"", b"x" * 129, b"a\\n345678", b"1234567\x1f", b"\x1f")),
    *((text, -1) for text in (b"", b"1", b'"a', b'"a",', b'"a""b"', b'"12345678')),
)
"""Text between an array's brackets, and how many strings are taken out of it."""
_SEED: Final = 0xC4C32
_LONGEST_RECORD: Final = 8 * 28
_F16: Final = TYPES["f16"]
_F32: Final = TYPES["f32"]

Numbers = npt.NDArray[np.integer[Any]]

_FIELDS: Final = (
    "n", "answer_count", "answer_rows", "items", "item_rows", "one_item", "categories", "given",
    "one_category", "user_index", "users", "offsets", "record_bytes",
    "user", "item", "user_item", "user_category", "width", "type",
    "answer", "statuses", "counts", "resolved", "has_resolved",
)  # fmt: skip
"""Of a question, in the order of `gkc.rows_library.QUESTION`."""


def check(loaded: ctypes.PyDLL) -> None:
    """Ask a library.

    Raises
    ------
    RowRuleError
        If it answers other bits than it should.
    """
    if Trial().ask(loaded) != RECORDED:
        raise RowRuleError("gives other bits than it should", build(LIBRARY))


class Place(int):
    """An address in a trial's memory, from its beginning."""


class Trial:
    """All questions, to be asked once.

    Attributes
    ----------
    memory : bytearray
        Everything, at multiples of eight; nothing is at 0.
    addresses : list of int
        Where in it addresses stand.
    calls : list of (str, tuple of int, int)
        Function, arguments (an address is a `Place`) and what it has to return.
    answers : list of (int, int)
        Where in it answers come to lie, and how many bytes.
    """

    def __init__(self) -> None:
        self.memory = bytearray(8)
        self.addresses: list[int] = []
        self.calls: list[tuple[str, tuple[int, ...], int]] = []
        self.answers: list[tuple[int, int]] = []
        n = len(_ASKED)
        self._rows = self._int64s([k * 5 % n for k in range(n)])
        self._items = self._int64s([k * 11 % 40 - 8 for k in range(_MANY)])
        self._one_item = self._int64s([_IDS[3]])
        self._stranger = self._int64s([-1])
        self._categories = self._int64s([category * _CATEGORY for _, category in _ASKED])
        self._one_category = self._int64s([6 * _CATEGORY])
        self._given = self._put(bytes(k % 4 < 3 for k in range(n)))
        self._user_index = self._int64s([user for user, _ in _ASKED])
        self._each_user = self._int64s(range(_USERS))
        self._table = (
            self._put(struct.pack(f"<{len(_STARTS)}I", *_STARTS)),
            self._int64s(_IDS),
            len(_IDS),
            64 - _BUCKET_BITS,
        )
        self._own_categories = self._int64s([k % 5 * _CATEGORY for k in range(len(_IDS))])
        self._has_category = self._put(bytes(k % 3 > 0 for k in range(len(_IDS))))
        self._number_pairs()
        self._find_strings()
        self._take_strings()
        self._check_records()
        for element_type in TYPES:
            self._ask_of(element_type)

    def ask(self, loaded: ctypes.PyDLL) -> int:
        """Return the CRC-32 of the answers; -1 if a call returns what it should not."""
        words = np.frombuffer(self.memory, dtype=np.int64)
        base = words.ctypes.data
        words[np.array(self.addresses) // 8] += base
        for name, arguments, expected in self.calls:
            function = loaded[name]  # one of its own, which takes any address
            numbers = (base + a if isinstance(a, Place) else a for a in arguments)
            if function(*map(ctypes.c_int64, numbers)) != expected:
                return -1
        crc32 = 0
        for place, size in self.answers:
            crc32 = zlib.crc32(memoryview(self.memory)[place : place + size], crc32)
        return crc32

    # ---- what is asked

    def _number_pairs(self) -> None:
        """Distinct users, then distinct pairs of them and categories, where there is one."""
        n = len(_ASKED)
        for seconds, count in (((0, 0), _USERS), ((self._categories, self._given), 39)):
            slots = self._int64s([-1] * _SLOTS)
            answers = self._room({"first": 8 * n, "index": 8 * n})
            arguments = (self._user_index, *seconds, n, 1, slots, _SLOTS - 1, *answers.values())
            self.calls.append(("gkc_distinct", arguments, count))

    def _find_strings(self) -> None:
        """Keys of strings, their rows in a table of two buckets, their places among sorted ones."""
        names = sorted(_NAMES, key=lambda name: (_hash(_key(name)), name))
        keys = [_key(name) for name in names]
        starts = [0, sum(not _hash(key) >> 63 for key in keys), len(keys)]
        table = self._words(
            [
                self._put(struct.pack("<3I", *starts)),
                self._put(struct.pack(f"<{len(keys)}Q", *keys)),
                len(keys),
                63,
            ]
        )
        asked = (_NAMES + _STRANGERS) * (_MANY // len(_NAMES + _STRANGERS) + 1)
        question = self._strings(asked)
        size = 8 * len(asked)
        answers = self._room({"keys": size, "rows": size, "places": size})
        stored, ordered = self._strings(names), self._strings(sorted(_NAMES))
        self.calls += [
            ("gkc_keys", (question, answers["keys"]), 0),
            ("gkc_find_strings", (table, stored, question, answers["rows"]), 0),
            ("gkc_find_sorted", (ordered, question, answers["places"]), 0),
        ]

    def _take_strings(self) -> None:
        """Strings of JSON text, and what is none that could be taken."""
        for text, count in _TEXTS:
            answers = self._room({"offsets": 8 * (len(text) // 4 + 2), "bytes": len(text)})
            arguments = self._put(text), 0, len(text), answers["bytes"], answers["offsets"]
            self.calls.append(("gkc_take_strings", arguments, count))

    def _check_records(self) -> None:
        """Sum up records of all lengths, the last one damaged or not, of users of either type."""
        users = range(_LONGEST_RECORD // 8)
        for is_string in (False, True):
            names = [struct.pack("<q", -user) + b"x" * (user % 9 * is_string) for user in users]
            records = [b"", *(_summed(names[k], bytes(range(k, 9 * k))[4:]) for k in users[1:])]
            raw, offsets = b"".join(records), [*accumulate(map(len, records), initial=0)]
            ids = (0, self._strings(names)) if is_string else (self._put(b"".join(names)), 0)
            at = self._int64s(offsets)
            for changed, expected in ((0, -1), (1, len(users) - 1)):
                damaged = self._put(raw[:-1] + bytes([raw[-1] ^ changed]))
                arguments = _SEED, *ids, damaged, at, len(users), len(raw)
                self.calls.append(("gkc_check_records", arguments, expected))
            one = self._put(records[-1][:-8])  # cut short
            arguments = _SEED, *ids, one, 0, 1, len(records[-1]) - 8
            self.calls.append(("gkc_check_records", arguments, 0))

    def _strings(self, names: Sequence[bytes]) -> Place:
        """Put strings as ``rows.c`` takes them."""
        raw, ends = b"".join(names), accumulate(map(len, names), initial=0)
        return self._words([self._int64s([*ends]), self._put(raw), len(names), len(raw)])

    def _ask_of(self, element_type: str) -> None:
        """Ask about what is stored in one element type."""
        numbers = _numbers(element_type)
        of_items = _vectors(numbers, len(_IDS), _DIM)
        of_pairs = _vectors(numbers[_DIM:], _USERS, _CATEGORY_DIM)
        records = [_record(of_items[k], of_pairs[1 : k + 1]) for k in range(_USERS - 1)]
        ends = [*accumulate(map(len, records))]
        users = self._users(records) | {
            "users": _USERS,
            "offsets": self._int64s([0, *ends, ends[-1]]),
        }
        widths = element_type, _DIM, _CATEGORY_DIM
        defaults = (b"", of_items[0], of_pairs[0])
        everything = self._generation(widths, of_items, defaults, 2 * _CATEGORY)
        self._ask_of_all(everything, users)
        self._ask_of_one_item(self._generation(widths, of_items, (of_items[1], b"", b"")), users)
        self._ask_of_many_items(everything, self._users(records[-1:]))
        of_item, of_user = _vectors(numbers, 2, _WIDE)
        wide = self._generation((element_type, _WIDE, 0), [of_item] * len(_IDS))
        self._ask_of_wide(wide, self._users([_record(of_user, [])]))

    def _ask_of_all(self, generation: int, users: dict[str, int]) -> None:
        """All parts, at other places of the answer and in two steps; most categories are given."""
        question = {
            **users,
            **_columns(PARTS),
            "answer_rows": self._rows,
            "items": self._items,
            "categories": self._categories,
            "given": self._given,
            "user_index": self._user_index,
        }
        n = len(_ASKED)
        for answered in (_F16, _F32):
            self._lay(generation, (0, n // 3, n), question, answered)

    def _ask_of_one_item(self, generation: int, users: dict[str, int]) -> None:
        """Two parts of rows of one item and category, where only users have a default vector."""
        question = {
            **users,
            **_columns(("user", "user_item")),
            "one_item": 1,
            "one_category": 1,
            "categories": self._one_category,
            "given": self._given,
            "user_index": self._each_user,
        }
        for item in (self._one_item, self._stranger):
            self._lay(generation, (0, _USERS), question | {"items": item}, _F32)

    def _ask_of_many_items(self, generation: int, user: dict[str, int]) -> None:
        """No part, but what becomes of each: more items than are looked up at once, of one user."""
        question = user | _columns(()) | {"items": self._items}
        self._lay(generation, (0, _MANY), question, _F16)

    def _ask_of_wide(self, generation: int, user: dict[str, int]) -> None:
        """Vectors that are longer than what is computed at once."""
        question = user | _columns(("user", "user_item"), _WIDE) | {"items": self._one_item}
        for answered in (_F16, _F32):
            self._lay(generation, (0, 1), question, answered)

    def _lay(
        self, generation: int, steps: Sequence[int], question: dict[str, int], answered: int
    ) -> None:
        """Have the rows of a question laid in steps."""
        n, number_bytes = steps[-1], 2 if answered == _F16 else 4
        sizes = {
            "item_rows": 8 * n,
            "counts": 8 * 12,
            "resolved": 8 * n,
            "answer": n * question["width"] * number_bytes,
            "statuses": 4 * n,
            "has_resolved": n,
        }
        fields = question | self._room(sizes) | {"n": n, "answer_count": n, "type": answered}
        place = self._words([fields.get(name, 0) for name in _FIELDS])
        for start, end in pairwise(steps):
            arguments = generation, place, fields["records"], start, end
            self.calls.append(("gkc_lay_rows", arguments, 0))

    # ---- what is stored

    def _generation(
        self,
        stored: tuple[str, int, int],
        vectors: Sequence[bytes],
        defaults: Sequence[bytes] = (b"", b"", b""),
        default_category: int | None = None,
    ) -> int:
        element_type, *widths = stored
        return self._words(
            [
                *self._table,
                TYPES[element_type],
                *widths,
                self._own_categories,
                self._has_category,
                self._put(b"".join(vectors)),
                *(self._put(vector) if vector else 0 for vector in defaults),
                default_category or 0,
                default_category is not None,
            ]
        )

    def _users(self, records: Sequence[bytes]) -> dict[str, int]:
        raw = b"".join(records)
        return {"users": 1, "records": self._put(raw), "record_bytes": len(raw)}

    # ---- memory

    def _put(self, data: bytes) -> Place:
        place = Place(len(self.memory))
        self.memory += data + bytes(-len(data) % 8)
        return place

    def _room(self, sizes: dict[str, int]) -> dict[str, int]:
        """Make room for answers; all but the last two take a multiple of eight bytes."""
        size = sum(sizes.values())
        start = self._put(bytes(size))
        self.answers.append((start, size))
        places = map(Place, accumulate(sizes.values(), initial=start))
        return dict(zip(sizes, places, strict=False))

    def _int64s(self, numbers: Sequence[int]) -> Place:
        return self._put(struct.pack(f"{len(numbers)}q", *numbers))

    def _words(self, words: Sequence[int]) -> Place:
        """Put numbers and addresses as ``rows.c`` takes them, eight bytes each."""
        place = self._int64s(words)
        self.addresses += [place + 8 * k for k, word in enumerate(words) if isinstance(word, Place)]
        return place


def _columns(parts: Sequence[Part], dim: int = _DIM) -> dict[str, int]:
    """Return where each part begins in a row, -1 where it is not in it, and the row's width."""
    spans = part_spans(parts, dim, _CATEGORY_DIM)
    width = max((end for _, end in spans.values()), default=0)
    return {part: spans[part][0] if part in spans else -1 for part in PARTS} | {"width": width}


def _key(name: bytes) -> int:
    """Return the key of a string, as docs/store-format.md has it."""
    key = (len(name) + 1) * 0x9E3779B97F4A7C15 & _UINT64
    for at in range(0, len(name), 8):
        word = int.from_bytes(name[at : at + 8], "little")
        key = (key ^ word) * 0xBF58476D1CE4E5B9 & _UINT64
        key ^= key >> 32
    return key


def _hash(key: int) -> int:
    """Return the place of a key in the stored order."""
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & _UINT64
    key = (key ^ key >> 27) * 0x94D049BB133111EB & _UINT64
    return key ^ key >> 31


def _record(vector: bytes, pair_vectors: Sequence[bytes]) -> bytes:
    """Return a user's record, whose categories are 0, 2, 4 and so on."""
    pairs = len(pair_vectors)
    ahead = struct.pack("<II", 0, pairs) + vector.ljust(-(-len(vector) // 8) * 8, b"\0")
    categories = struct.pack(f"<{pairs}q", *(2 * k * _CATEGORY for k in range(pairs)))
    record = ahead + categories + b"".join(pair_vectors)
    return record.ljust(-(-len(record) // 8) * 8, b"\0")


def _summed(user: bytes, content: bytes) -> bytes:
    """Return content behind its CRC-32, as a record has it."""
    return zlib.crc32(content, zlib.crc32(user, _SEED)).to_bytes(4, "little") + content


def _numbers(element_type: str) -> Numbers:
    """Return some numbers as they are stored, from the least to the largest."""
    numbers = np.arange(1, 2 * _WIDE + 1, dtype=np.uint32) * np.uint32(2_654_435_761)
    if element_type == "f16":
        halves = numbers >> 16
        return _mixed(halves & 0xBFFF, halves & 0xF7FF | 0x4000).astype("<u2")
    if element_type == "int8":
        return (numbers >> 24).astype("<u1")
    mixed = _mixed(numbers & 0xBFFFFFFF | 0x30000000, numbers & 0x8FFFFFFF | 0x40000000)
    mixed[::3] = mixed[::3] & 0xFFFFE000 | 0x1000  # in the middle between two halves
    return mixed.astype("<u4")


def _vectors(numbers: Numbers, n: int, width: int) -> list[bytes]:
    """Return stored vectors; those of one byte a number have a scale each."""
    raw, size = numbers.tobytes(), numbers.itemsize * width
    scales = [struct.pack("<f", (k + 1) / 8) if numbers.itemsize == 1 else b"" for k in range(n)]
    return [scale + raw[k * size : (k + 1) * size] for k, scale in enumerate(scales)]


def _mixed(small: Numbers, large: Numbers) -> Numbers:
    """Take small and large numbers by turns."""
    mixed = small.copy()
    mixed[::2] = large[::2]
    return mixed


if __name__ == "__main__":
    print(Trial().ask(load(LIBRARY)))  # noqa: T201 - this is all that it is run for
