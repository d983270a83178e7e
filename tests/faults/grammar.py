"""Questions drawn from the grammar of what may be asked, most of them wrong at a place or two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.gkc.world import CATEGORIES, ITEMS, STRANGERS, STRINGS, USERS, named

IDS = {"user": USERS, "item": ITEMS, "category": CATEGORIES}
KINDS = {"u": "user", "i": "item", "c": "category"}
VERSIONS: dict[str, Sequence[str]] = {
    "numbers": (),
    "strings": ("user", "item", "category"),
    "users": STRINGS[0],
    "wide": (),
    "largest": (),
}
"""The versions that questions name, and of which kinds ids are strings there."""
PARTS = ("user", "item", "user_item", "user_category")
LARGE_BYTES = 8_388_608
"""As many as a body may have."""

NUMBERS = (
    *(str(2**bits + more) for bits in (31, 53, 63, 64) for more in (-1, 0, 1)),
    *(str(-(2**bits) + more) for bits in (53, 63, 64) for more in (-1, 0, 1)),
    *("0", "-0", "1.0", "0.5", "1e3", "1E-400", "-1e400", "1e308", "9" * 400, "1" + "0" * 5000),
    *("01", "+1", ".5", "1.", "-", "1e", "0x1", "NaN", "-Infinity", "1_0"),
)
TEXTS = (
    *('""', '"v1"', '"7"', '"user"', r'"\u0000"', r'"\ud800"', r'"\udc00\ud800"'),
    *(r'"\ud83d\ude00"', r'"\u00e9"', '"e\N{COMBINING ACUTE ACCENT}"', r'"\x"', r'"\u12"', '"\t"'),
    *('"', '"a', r'"\"', "'a'", f'"{"x" * 128}"', f'"{"x" * 129}"', f'"{"é" * 64}"'),
    *(f'"{"é" * 65}"', f'"{"a" * 64}"', f'"{"a" * 65}"', f'"{"x" * 10_000}"', r'"\/\b\f\n"'),
)
OTHERS = (
    *("true", "false", "null", "[]", "{}", "[[]]", "[null]", '{"u":1}', "[1,2", "[1,,2]", "[1,]"),
    *('{"a"}', '{"a":1,}', "{1:2}", "", "tru", "nulll", "\N{ZERO WIDTH NO-BREAK SPACE}1", "/**/1"),
    *("[" * 50 + "]" * 50, "[" * 2000 + "]" * 2000, '{"a":' * 900 + "1" + "}" * 900, "[" * 5000),
)
WRONG = tuple(text.encode() for text in (*NUMBERS, *TEXTS, *OTHERS))
WRONG += (b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"\x00"', b"\x00", b'"\xf0\x9f"')
DTYPES = ("I64", "I32", "U64", "U8", "BOOL", "F16", "F32", "F64", "BF16", "F8_E4M3", "i64", "")

JSON, SAFETENSORS = b"application/json", b"application/x-safetensors"
HEADS: dict[bytes, Sequence[bytes]] = {
    b"accept": (
        *(b"*/*", b"", b",", b"text/html", b"application/*;q=0.5", b"*/*;q=0", b";;;", b"\xff"),
        *(JSON + b";q=0, */*;q=1.0", SAFETENSORS + b";q=nan", JSON + b";q=1e9", b"a/b," * 200),
        *(b"x" * 2000, SAFETENSORS + b";q=\xb2", JSON + b";q=0.0000000000000001"),
    ),
    b"content-type": (
        *(b"", b"text/plain", JSON + b"; charset=latin-1", JSON.upper(), b"application/json;" * 99),
        *(b"\xff\xfe", SAFETENSORS + b" ;a", b"application/", b";application/json"),
    ),
    b"content-encoding": (b"gzip", b"identity", b"", b",", b"identity, br", b"\xff", b"x" * 3000),
    b"content-length": (b"0", b"8388609"),
    b"x-request-timeout-ms": (
        *(b"1", b"10000", b"600000", b"600001", b"0", b"-1", b"", b"1.5", b"1e3", b"\xb2", b"nan"),
        *(b"9" * 5000, b" 7 ", b"0x10", b"1_000", b"+5"),
    ),
    b"x-request-id": (b"", b"a", b"\xff", b"x" * 129, b"a b", b"\x00"),
}


@dataclass(frozen=True)
class Asked:
    """A request: what a server makes of its head, and its body."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


class Grammar:
    """Draws requests; equal ones from an equally seeded ``random``."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._odds = 0.0

    def request(self) -> Asked:
        random = self._random
        self._odds = random.choice((0.0, 0.01, 0.05, 0.3))
        is_json = random.random() < 0.6
        body = self._damaged(self._json() if is_json else self._safetensors())
        headers = [(b"content-type", JSON if is_json else SAFETENSORS)]
        headers += [(b"accept", SAFETENSORS)] if random.random() < 0.5 else []
        for name, values in HEADS.items():
            if self._is_odd():
                headers.append((name, random.choice(values)))
        return Asked(headers, body)

    # ---- what both forms are made of

    def _is_odd(self) -> bool:
        return self._random.random() < self._odds

    def _is_large(self) -> bool:
        return self._random.random() < self._odds / 1000

    def _or_wrong(self, text: bytes) -> bytes:
        """Return a value of JSON, or another one in its place."""
        if self._is_large():
            return self._large()
        return self._random.choice(WRONG) if self._is_odd() else text

    def _large(self) -> bytes:
        """Return an array, a string or a nesting of megabytes."""
        random = self._random
        size = LARGE_BYTES // random.choice((1, 2, 16, 128))
        piece = random.choice(WRONG) + random.choice((b",", b",", b"", b" "))
        if random.random() < 0.2:
            return b'"' + random.choice((b"x", rb"\u00e9", b"\xc3\xa9")) * (size // 6) + b'"'
        return b"[" + piece * (size // len(piece) if piece else 0) + b"1]"

    def _object(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Return an object, with fields that are doubled, left out or not known."""
        random = self._random
        if self._is_odd():
            fields.append((random.choice(fields)[0], random.choice(WRONG)))
        if self._is_odd():
            fields.append((random.choice((*TEXTS[:14], '"w"')).encode(), random.choice(WRONG)))
        if self._is_odd():
            del fields[random.randrange(len(fields))]
        if random.random() < 0.3:
            random.shuffle(fields)
        space = random.choice((b"", b"", b" ", b"\n\t"))
        return b"{" + (b"," + space).join([n + b":" + space + v for n, v in fields]) + b"}"

    def _array(self, values: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(values) + b"]"

    def _text(self, value: object) -> bytes:
        return json.dumps(value, ensure_ascii=self._random.random() < 0.3).encode()

    def _count(self) -> int:
        if self._is_large():
            return self._random.choice((1000, 9_999, 10_001))
        return self._random.choice((0, 1, 1, 2, 3, 5, 40))

    def _length(self, rows: int) -> int:
        return self._count() if self._is_odd() else self._random.choice((1, rows))

    def _version(self) -> str:
        return "none" if self._is_odd() else self._random.choice(list(VERSIONS))

    def _ids(self, name: str, version: str, n: int) -> list[int | str]:
        known = (*IDS[KINDS[name]], *STRANGERS)
        strings = VERSIONS.get(self._version() if self._is_odd() else version, ())
        return [named(KINDS[name], self._random.choice(known), strings) for _ in range(n)]

    def _options(self) -> list[tuple[bytes, bytes]]:
        random = self._random
        parts = [b'"%s"' % part.encode() for part in random.choices(PARTS, k=random.randint(1, 4))]
        given = {
            b'"parts"': self._array([self._or_wrong(part) for part in parts]),
            b'"dtype"': random.choice((b'"f32"', b'"f16"')),
            b'"layout"': random.choice((b'"rows"', b'"factored"')),
            b'"allow_stale"': random.choice((b"0", b"3", b"0.5")),
        }
        return [(n, self._or_wrong(v)) for n, v in given.items() if random.random() < 0.15]

    def _damaged(self, body: bytes) -> bytes:
        """Return a body, or one that is cut, changed or continued."""
        random = self._random
        if not self._is_odd():
            return body
        place = random.randint(0, len(body))
        return random.choice(
            (
                body[:place],
                body[:place] + random.randbytes(1) + body[place + 1 :],
                body[:place] + random.choice(WRONG) + body[place:],
                body + random.choice((b"\x00", b" ", b"}", b"\xef\xbb\xbf", random.randbytes(9))),
                b"\xef\xbb\xbf" + body,
                body + body,
                body.decode("latin-1").encode("utf-16"),
            )
        )

    # ---- JSON

    def _json(self) -> bytes:
        return self._quadruples() if self._random.random() < 0.3 else self._columns()

    def _columns(self) -> bytes:
        random = self._random
        version, rows = self._version(), self._count()
        fields = [(b'"%s"' % n.encode(), self._column(n, version, rows)) for n in "uic"]
        if random.random() < 0.5:
            del fields[-1]
        versions = [self._text(version)] * self._length(rows)
        if self._is_odd() or not versions:
            fields.append((b'"v"', self._or_wrong(self._text(version))))
        else:
            fields.append((b'"v"', self._array([self._or_wrong(name) for name in versions])))
        return self._object(fields + self._options())

    def _column(self, name: str, version: str, rows: int) -> bytes:
        values = [self._text(id_) for id_ in self._ids(name, version, self._length(rows))]
        if name == "c":
            values = [b"null" if self._random.random() < 0.2 else value for value in values]
        values = [self._or_wrong(value) for value in values]
        is_one = len(values) == 1 and self._random.random() < 0.5
        return self._or_wrong(values[0] if is_one else self._array(values))

    def _quadruples(self) -> bytes:
        version = self._version()
        rows = [self._or_wrong(self._quadruple(version)) for _ in range(self._count())]
        fields = [(b'"quadruples"', self._or_wrong(self._array(rows)))]
        return self._object(fields + self._options())

    def _quadruple(self, version: str) -> bytes:
        fields = [
            (b'"%s"' % name.encode(), self._or_wrong(self._text(self._ids(name, version, 1)[0])))
            for name in "uic"
        ]
        if self._random.random() < 0.5:
            del fields[-1]
        return self._object([*fields, (b'"v"', self._or_wrong(self._text(version)))])

    # ---- safetensors

    def _safetensors(self) -> bytes:
        random = self._random
        version, rows = self._version(), self._count()
        tensors: dict[str, tuple[str, list[int], bytes]] = {}
        for name in "uic" if random.random() < 0.5 else "ui":
            tensors |= self._tensors(name, self._ids(name, version, self._length(rows)))
        if "c" in tensors and random.random() < 0.3:
            given = bytes(random.choices((0, 1), k=self._length(rows)))
            tensors["c_given"] = "U8", [len(given)], given
        entries, data = [], b""
        for name, (dtype, shape, content) in tensors.items():
            if self._is_odd():
                content = content[:-1] if random.random() < 0.5 else content + b"\x00"
            entries.append((self._text(name), self._entry(dtype, shape, len(data), len(content))))
            data += content
        entries.append((b'"__metadata__"', self._or_wrong(self._metadata(version))))
        header = self._or_wrong(self._object(entries))
        header += b" " * random.choice((0, -len(header) % 8))
        size = random.choice((0, 1, 2**63, 2**64 - 1)) if self._is_odd() else len(header)
        return size.to_bytes(8, "little") + header + data

    def _tensors(
        self, name: str, ids: Sequence[int | str]
    ) -> dict[str, tuple[str, list[int], bytes]]:
        """Return the tensors of a column of ids."""
        if ids and isinstance(ids[0], int):
            numbers = b"".join([int(id_).to_bytes(8, "little", signed=True) for id_ in ids])
            return {name: ("I64", [len(ids)], numbers)}
        texts = [str(id_).encode() for id_ in ids]
        ends = [0]
        for text in texts:
            ends.append(ends[-1] + len(text))
        if self._is_odd():
            ends[self._random.randrange(len(ends))] += self._random.choice((-1, 1, 2**62))
        offsets = b"".join([end.to_bytes(8, "little", signed=True) for end in ends])
        data = b"".join(texts)
        if data and self._is_odd():
            data = data[:-1] + b"\xff"
        return {name: ("U8", [len(data)], data), f"{name}_offsets": ("I64", [len(ends)], offsets)}

    def _entry(self, dtype: str, shape: list[int], start: int, size: int) -> bytes:
        if self._is_odd():
            dtype = self._random.choice(DTYPES)
        sizes = [self._or_wrong(b"%d" % length) for length in shape]
        if self._is_odd():
            sizes.append(self._random.choice((b"1", b"0", b"-1", b"1" + b"0" * 18)))
        offsets = [self._or_wrong(b"%d" % offset) for offset in (start, start + size)]
        return self._object(
            [
                (b'"dtype"', self._or_wrong(self._text(dtype))),
                (b'"shape"', self._or_wrong(self._array(sizes))),
                (b'"data_offsets"', self._or_wrong(self._array(offsets))),
            ]
        )

    def _metadata(self, version: str) -> bytes:
        """Return the object of strings; what is a list is JSON text in one of them."""
        entries = [(b'"v"', self._or_wrong(self._text(version)))]
        entries += [
            (name, value if value.startswith(b'"') else self._text(value.decode(errors="replace")))
            for name, value in self._options()
        ]
        return self._object(entries)
