"""A bundle, the directory that pretraining hands over: which files it is of, and their digests."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

from msgspec.structs import replace

from exporter.errors import BundleError
from exporter.manifest import (
    MANIFEST,
    Manifest,
    ModelEntry,
    ModelKind,
    TableKind,
    UnknownValue,
    bad_key,
    parse_manifest,
)
from gkc.store import IdTypes

_MOST_MANIFEST_BYTES: Final = 64 << 20
_DELTA_LOG: Final = "_delta_log"
_NO_ROWS: Final = ("_metadata", "_common_metadata")
"""Parquet files that writers put beside those with the rows."""

_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Numbers of the fields, by message, that may hold a tensor further down (onnx.proto)."""

_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_Field = tuple[int, int, int]
"""Number of a field, then where its bytes begin and end; of a whole number its value, then -1."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest has been read and found right.

    Attributes
    ----------
    root : Path
        The directory, resolved.
    manifest : Manifest
    manifest_digest : str
        SHA-256 of its bytes.
    models : mapping of model kind to ModelEntry
        Without user_category, if the bundle has none; the same is true of the other mappings.
    weights : mapping of model kind to list of str
        Files, relative to the bundle, in which a model keeps weights besides its own.
    tables : mapping of table kind to list of str
        Parquet files, relative to the bundle, in the order of their names.
    skipped : list of str
        Parquet files in tables' folders that are passed over because of their names.
    unknown : mapping of model kind to row
        By column name, the row whose output is the default vector.
    sha256 : mapping of str to str
        Expected digest, hexadecimal, by relative path.
    """

    root: Path
    manifest: Manifest
    manifest_digest: str
    models: Mapping[ModelKind, ModelEntry]
    weights: Mapping[ModelKind, list[str]]
    tables: Mapping[TableKind, list[str]]
    skipped: list[str]
    unknown: Mapping[ModelKind, Mapping[str, UnknownValue]]
    sha256: Mapping[str, str]

    def width(self, kind: ModelKind) -> int:
        """Return how wide the output of a model must be."""
        return self.manifest.category_dim if kind == "user_category" else self.manifest.dim

    def path(self, relative: str) -> Path:
        """Return where a file of the bundle lies."""
        return self.root / relative


def load_bundle(root: Path) -> Bundle:
    """Read a bundle's manifest, find its files, and check all that needs no model to be loaded.

    Raises
    ------
    BundleError
        If the directory, the manifest or a file is missing, or the manifest breaks the format.
    """
    raw = _manifest_bytes(root)
    manifest = parse_manifest(raw)
    files = _Files(root.resolve())
    models = {kind: files.model(kind, model) for kind, model in manifest.all_models().items()}
    bundle = Bundle(
        root=root.resolve(),
        manifest=manifest,
        manifest_digest=hashlib.sha256(raw).hexdigest(),
        models=models,
        weights={kind: files.weights(model.file) for kind, model in models.items()},
        tables={kind: files.table(kind, path) for kind, path in manifest.all_tables().items()},
        skipped=files.skipped,
        unknown={kind: row for kind in models if (row := manifest.unknown_row(kind)) is not None},
        sha256={
            files.file(file, f"sha256.{file}"): digest.lower()
            for file, digest in manifest.sha256.items()
        },
    )
    _require_all_digests(bundle)
    return bundle


def _manifest_bytes(root: Path) -> bytes:
    file = root / MANIFEST
    try:
        if not root.is_dir():
            problem = "is no folder" if root.exists() else "is not there"
            raise BundleError(f"{root}", f"{problem}; --bundle names the folder of {MANIFEST}")
        if not _is_unicode(str(root.resolve())):
            raise BundleError(repr(str(root)), "has a path that is not UTF-8")
        if not file.is_file():
            problem = "is no file" if file.exists() else "is not there"
            raise BundleError(f"{file}", f"{problem}, so that {root} is no bundle")
        if file.stat().st_size > _MOST_MANIFEST_BYTES:
            raise BundleError(f"{file}", f"is larger than {_MOST_MANIFEST_BYTES >> 20} MiB")
        return file.read_bytes()
    except OSError as exc:
        raise BundleError(f"{file}", f"cannot be read: {exc.strerror}") from exc


class _Files:
    """Finds what a manifest names inside a bundle; every complaint names the key or the file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.skipped: list[str] = []
        """Parquet files of tables' folders that were passed over because of their names."""

    def _inside(self, relative: str, where: str) -> str:
        """Return a path that stays inside the bundle, written plainly."""
        if problem := self._why_outside(relative):
            raise bad_key(where, f"is {relative!r}, which {problem}")
        return PurePosixPath(relative).as_posix()

    def _why_outside(self, relative: str) -> str | None:
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in relative:
            return "is no path inside the bundle"
        try:
            resolved = (self._root / pure).resolve()
        except (OSError, RuntimeError):
            return "is a link that leads nowhere"
        return None if resolved.is_relative_to(self._root) else "leads outside the bundle"

    def file(self, relative: str, where: str) -> str:
        """Return the plain path of a file that the key ``where`` names."""
        plain = self._inside(relative, where)
        path = self._root / plain
        if not path.is_file():
            problem = "is no file" if path.exists() else "is not in the bundle"
            raise BundleError(relative, f"{problem}, though {where} names it")
        return plain

    def model(self, kind: ModelKind, model: ModelEntry) -> ModelEntry:
        """Return a model with the plain path of its file."""
        return replace(model, file=self.file(model.file, f"models.{kind}.file"))

    def weights(self, file: str) -> list[str]:
        """Return the files of a model's external data, which torch writes for large models."""
        try:
            locations = external_files(self._root / file)
        except OSError as exc:
            raise BundleError(file, f"cannot be read: {exc.strerror}") from exc
        except ValueError as exc:
            problem = f"is no model that onnxruntime can load: not in the ONNX format ({exc})"
            raise BundleError(file, problem) from exc
        return [self._weight(file, location) for location in locations]

    def _weight(self, file: str, location: str) -> str:
        plain = (PurePosixPath(file).parent / location).as_posix()
        if problem := self._why_outside(plain):
            raise BundleError(file, f"keeps weights in {location!r}, which {problem}")
        if not (self._root / plain).is_file():
            problem = "is not in the bundle: copy it there, too"
            raise BundleError(file, f"keeps weights in {plain!r}, which {problem}")
        return plain

    def table(self, kind: TableKind, relative: str) -> list[str]:
        """Return the files of a table, which is one or a folder of them."""
        where = f"tables.{kind}"
        plain = self._inside(relative, where)
        if (self._root / plain).is_dir():
            return sorted(self._parts(plain))
        return [self.file(relative, where)]

    def _parts(self, folder: str) -> Iterator[str]:
        """Yield a folder's files, whatever their names, but those that writers mean to be hidden.

        Raises
        ------
        BundleError
            If there is none, one leads outside the bundle, or one cannot be told.
        """
        empty, skipped = True, list[str]()
        for above, folders, files in os.walk(self._root / folder, onerror=self._unreadable):
            for name in sorted(folders + files):
                path = Path(above, name)
                part = path.relative_to(self._root).as_posix()
                if name == _DELTA_LOG:
                    raise BundleError(
                        folder, "is a Delta table, whose files hold deleted rows; write it anew"
                    )
                if _is_hidden(path.relative_to(self._root / folder)):
                    skipped += [part] if _may_hold_rows(path) else []
                elif name in files or path.is_symlink():
                    empty = False
                    self._check_part(path, part)
                    yield part
        if empty:
            but = (
                f" but hidden ones: the name of {skipped[0]} begins with . or _" if skipped else ""
            )
            raise BundleError(folder, f"the folder holds no Parquet file{but}")
        self.skipped += skipped

    def _check_part(self, path: Path, part: str) -> None:
        if problem := self._why_outside(part):
            raise BundleError(part, problem)
        if not path.is_file():
            what = "a link to a folder" if path.is_dir() else "no regular file"
            raise BundleError(part, f"is {what}; a table's folder holds Parquet files")
        if not _is_unicode(part):
            raise BundleError(repr(part), "has a name that is not UTF-8")

    def _unreadable(self, exc: OSError) -> NoReturn:
        raise BundleError(str(exc.filename), f"cannot be read: {exc.strerror}") from exc


def _is_unicode(text: str) -> bool:
    """Tell whether a path's name is text; Linux takes any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_hidden(inside: Path) -> bool:
    """Tell whether Spark, Hive and Arrow pass a path over: markers and half-written files."""
    return any(p[0] == "." or (p[0] == "_" and "=" not in p) for p in inside.parts)


def _may_hold_rows(path: Path) -> bool:
    """Tell whether something hidden is a Parquet file that may be meant as a part of its table."""
    if path.name in _NO_ROWS or not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def _require_all_digests(bundle: Bundle) -> None:
    """Refuse checksums of a part only of a model with its weights, or of a table's folder."""
    whole = [[model.file, *bundle.weights[kind]] for kind, model in bundle.models.items()]
    for files in (*whole, *bundle.tables.values()):
        missing = [file for file in files if file not in bundle.sha256]
        if missing and len(missing) < len(files):
            listed = next(file for file in files if file in bundle.sha256)
            raise bad_key(
                "sha256",
                f"has {listed} but not {missing[0]}, which belongs to it; "
                f"add it: {_digest(bundle, missing[0])}",
            )


def _digest(bundle: Bundle, file: str) -> str:
    try:
        with bundle.path(file).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise BundleError(file, f"cannot be read: {exc.strerror}") from exc


def check_digests(bundle: Bundle) -> dict[str, str]:
    """Hash every model, its weights and every table file, compare with the manifest, return them.

    Raises
    ------
    BundleError
        If a file cannot be read, or is not the one that the manifest was written for.
    """
    files = {m.file for m in bundle.models.values()} | set(bundle.sha256)
    files.update(*bundle.weights.values(), *bundle.tables.values())
    digests: dict[str, str] = {}
    for file in sorted(files):
        digests[file] = _digest(bundle, file)
        expected = bundle.sha256.get(file, digests[file])
        if digests[file] != expected:
            raise BundleError(
                file, f"has the SHA-256 {digests[file]}, but the manifest says {expected}"
            )
    return digests


def fingerprint(bundle: Bundle, digests: Mapping[str, str], *facts: str) -> str:
    """Digest all that decides the stored bytes: manifest, files, and further ``facts``."""
    parts = [bundle.manifest_digest, *(f"{f}={d}" for f, d in sorted(digests.items())), *facts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def vector_space(bundle: Bundle, digests: Mapping[str, str], id_types: IdTypes) -> str:
    """Name the space of a bundle's vectors: the digest of its models, whatever their files' names.

    Equal models give vectors whose axes mean the same, whatever tables they are run on. Where ids
    are strings that counts, too: a downstream model that asks with numbers must not pass for one
    that can be answered.
    """
    parts = []
    for kind, model in bundle.models.items():
        files = (model.file, *bundle.weights[kind])
        parts.append(f"{kind}={' '.join(digests[file] for file in files)}")
    if id_types != IdTypes():
        parts.append(f"ids={id_types.user},{id_types.item},{id_types.category}")
    return "sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def external_files(path: Path) -> list[str]:
    """List the files that hold tensors of a model, relative to the model's folder, sorted.

    The package ``onnx`` is no dependency of the exporter, so the few fields that matter are read as
    protobuf lays them down. A model with gigabytes of weights is stepped over, not read.

    Raises
    ------
    ValueError
        If the file is no protobuf message.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return []
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return sorted(_locations(buffer))


def _locations(buffer: mmap.mmap) -> set[str]:
    """Collect the files that external tensors name; by a list, lest a deep graph end Python."""
    locations: set[str] = set()
    waiting = [("model", 0, len(buffer))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "tensor":
            locations.update(_location(buffer, start, end))
            continue
        kinds = _MESSAGES[message]
        for number, first, last in _fields(buffer, start, end):
            if number in kinds and last >= 0:
                waiting.append((kinds[number], first, last))
    return locations


def _location(buffer: mmap.mmap, start: int, end: int) -> list[str]:
    """Return the one file that a tensor lies in, if that is not the model's own."""
    entries: dict[bytes, bytes] = {}
    external = False
    for number, first, last in _fields(buffer, start, end):
        if number == _DATA_LOCATION:
            external = first == 1
        elif number == _EXTERNAL_DATA and last >= 0:
            pair = {n: buffer[a:b] for n, a, b in _fields(buffer, first, last) if b >= 0}
            entries[pair.get(_KEY, b"")] = pair.get(_VALUE, b"")
    location = entries.get(b"location")
    return [location.decode()] if external and location is not None else []


def _fields(buffer: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    at = start
    while at < end:
        key, at = _varint(buffer, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(buffer, at, end)
            yield number, value, -1
        elif wire == _BYTES:
            size, at = _varint(buffer, at, end)
            if at + size > end:
                raise ValueError("a field ends behind its message")
            yield number, at, at + size
            at += size
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field is of the kind {wire}")


def _varint(buffer: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a whole number of seven bits a byte; return it, and where what follows begins."""
    value = shift = 0
    while at < end and shift < 70:
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a whole number does not end")
