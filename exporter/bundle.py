"""A bundle, the directory that pretraining hands over: its manifest, read strictly, and digests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeGuard, get_args

import structlog

from exporter.errors import BundleError

log = structlog.get_logger(__name__)

BUNDLE_FORMAT: Final = "gkc-bundle/1"
MANIFEST: Final = "manifest.json"

ModelKind = Literal["user", "item", "user_category"]
MODEL_KINDS: Final[tuple[ModelKind, ...]] = get_args(ModelKind)
TableKind = Literal["users", "items", "user_categories"]
TABLE_KINDS: Final[tuple[TableKind, ...]] = get_args(TableKind)

_KNOWN_KEYS: Final = frozenset(
    [
        "format",
        "name",
        "created_at",
        "dim",
        "category_dim",
        "tasks",
        "models",
        "tables",
        "pad",
        "unknown",
        "sha256",
        "compatible_with",
    ]
)

UnknownValue = int | float | bool | list[Any] | None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the manifest says of one model.

    Attributes
    ----------
    kind : {"user", "item", "user_category"}
    file : str
        Relative to the bundle.
    output : str
        The ONNX output that is the knowledge.
    inputs : mapping of str to str
        Column that feeds each ONNX input.
    """

    kind: ModelKind
    file: str
    output: str
    inputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose manifest has been read and found right.

    Attributes
    ----------
    root : Path
        The directory, resolved.
    name : str
    dim, category_dim : int
        Width of K_u and K_i, and of K_uc.
    models : mapping of model kind to ModelSpec
    tables : mapping of table kind to str
        File or folder, relative to the bundle.
    pad : mapping of str to int
        Width of list columns whose input leaves it open.
    unknown : mapping of model kind to row
        By column name, the row whose output is the default vector.
    sha256 : mapping of str to str
        Expected digest, hexadecimal, by relative path.
    manifest_digest : str
        SHA-256 of the manifest itself.
    compatible_with : list of object
        Older versions in whose axes the vectors lie, as the manifest tells of them.
    """

    root: Path
    name: str
    dim: int
    category_dim: int
    models: Mapping[ModelKind, ModelSpec]
    tables: Mapping[TableKind, str]
    pad: Mapping[str, int]
    unknown: Mapping[ModelKind, Mapping[str, UnknownValue]]
    sha256: Mapping[str, str]
    manifest_digest: str
    compatible_with: list[dict[str, Any]]

    def width(self, kind: ModelKind) -> int:
        """Return how wide the output of a model must be."""
        return self.category_dim if kind == "user_category" else self.dim

    def path(self, relative: str) -> Path:
        """Return where a file of the bundle lies."""
        return self.root / relative

    def table_files(self, kind: TableKind) -> list[str]:
        """Return a table's Parquet files relative to the bundle, in the order of their names.

        Raises
        ------
        BundleError
            If a folder holds none, or one leads outside the bundle.
        """
        relative = self.tables[kind]
        path = self.path(relative)
        if not path.is_dir():
            return [relative]
        inside = sorted(p.relative_to(path).as_posix() for p in path.rglob("*.parquet"))
        # Writers leave markers and half-written files under such names.
        names = [n for n in inside if not any(s[0] in "._" for s in PurePosixPath(n).parts)]
        if not names:
            raise BundleError(relative, "the folder holds no .parquet file")
        files = [(PurePosixPath(relative) / n).as_posix() for n in names]
        for file in files:
            _inside(self.root, file, MANIFEST)
        return files


def load_bundle(root: Path) -> Bundle:
    """Read a bundle's manifest and check all that needs neither models nor tables to be opened.

    Raises
    ------
    BundleError
        If the directory or the manifest is missing, or the manifest breaks the format anywhere.
    """
    try:
        raw = (root / MANIFEST).read_bytes()
    except OSError as exc:
        raise BundleError(f"{root / MANIFEST}", f"cannot be read: {exc.strerror}") from exc
    try:
        value = json.loads(raw)
    except ValueError as exc:
        raise BundleError(MANIFEST, f"is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise BundleError(MANIFEST, "must be a JSON object")
    return _Manifest(root.resolve(), value).bundle(hashlib.sha256(raw).hexdigest())


class _Manifest:
    """One pass over a manifest's JSON; every complaint names the key."""

    def __init__(self, root: Path, value: dict[str, Any]) -> None:
        self._root = root
        self._value = value

    def bundle(self, digest: str) -> Bundle:
        if self._value.get("format") != BUNDLE_FORMAT:
            raise self._bad(
                "format", f"must be {BUNDLE_FORMAT!r}, not {self._value.get('format')!r}"
            )
        for key in sorted(self._value.keys() - _KNOWN_KEYS):
            log.warning("manifest_key_ignored", key=key)
        if not isinstance(self._value.get("created_at", ""), str):
            raise self._bad("created_at", "must be a string")
        self._check_tasks()
        models = self._models()
        return Bundle(
            root=self._root,
            name=self._text(self._value, "name", "name"),
            dim=self._width("dim"),
            category_dim=self._width("category_dim"),
            models=models,
            tables=self._tables(),
            pad=self._pad(),
            unknown=self._unknown(models),
            sha256=self._sha256(),
            manifest_digest=digest,
            compatible_with=self._compatible_with(),
        )

    def _bad(self, key: str, problem: str) -> BundleError:
        return BundleError(MANIFEST, f"{key!r} {problem}")

    def _text(self, value: Mapping[str, Any], key: str, name: str) -> str:
        text = value.get(key)
        if not isinstance(text, str) or not text:
            raise self._bad(name, "must be a string that is not empty")
        return text

    def _object(self, key: str, *, required: bool = False) -> dict[str, Any]:
        value = self._value.get(key) if required else self._value.get(key, {})
        if not isinstance(value, dict):
            raise self._bad(key, "must be an object")
        return value

    def _width(self, key: str) -> int:
        width = self._value.get(key)
        if not _is_count(width):
            raise self._bad(key, f"must be a whole number above 0, not {width!r}")
        return width

    def _check_tasks(self) -> None:
        tasks = self._value.get("tasks", [])
        if not isinstance(tasks, list) or not all(
            isinstance(t, dict) and isinstance(t.get("name"), str) and _is_count(t.get("dim"))
            for t in tasks
        ):
            raise self._bad("tasks", 'must be a list of {"name": text, "dim": width}')

    def _compatible_with(self) -> list[dict[str, Any]]:
        found = self._value.get("compatible_with", [])
        if not isinstance(found, list):
            raise self._bad("compatible_with", "must be a list")
        for place, one in enumerate(found):
            self._check_compatible(f"compatible_with.{place}", one)
        return found

    def _check_compatible(self, where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise self._bad(where, "must be an object")
        self._text(value, "checkpoint", f"{where}.checkpoint")
        if "method" in value:
            self._text(value, "method", f"{where}.method")
        if "day" in value and type(value["day"]) is not int:
            raise self._bad(f"{where}.day", "must be a whole number")
        errors = value.get("relative_error", {})
        if not isinstance(errors, dict) or not all(map(_is_finite, errors.values())):
            raise self._bad(f"{where}.relative_error", "must map parts to finite numbers")

    def _models(self) -> dict[ModelKind, ModelSpec]:
        models = self._object("models", required=True)
        self._require_keys("models", models, MODEL_KINDS)
        return {kind: self._model(kind, models[kind]) for kind in MODEL_KINDS}

    def _model(self, kind: ModelKind, value: object) -> ModelSpec:
        where = f"models.{kind}"
        if not isinstance(value, dict):
            raise self._bad(where, "must be an object")
        inputs = value.get("inputs")
        if not isinstance(inputs, dict) or not inputs:
            raise self._bad(f"{where}.inputs", "must map at least one ONNX input to a column")
        for name in inputs:
            self._text(inputs, name, f"{where}.inputs.{name}")
        file = self._text(value, "file", f"{where}.file")
        if not _inside(self._root, file, f"{where}.file").is_file():
            raise BundleError(file, f"is not in the bundle, though {where}.file names it")
        return ModelSpec(kind, file, self._text(value, "output", f"{where}.output"), inputs)

    def _tables(self) -> dict[TableKind, str]:
        tables = self._object("tables", required=True)
        self._require_keys("tables", tables, TABLE_KINDS)
        found: dict[TableKind, str] = {}
        for kind in TABLE_KINDS:
            where = f"tables.{kind}"
            found[kind] = self._text(tables, kind, where)
            if not _inside(self._root, found[kind], where).exists():
                raise BundleError(found[kind], f"is not in the bundle, though {where} names it")
        return found

    def _require_keys(self, key: str, value: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
        if set(value) != set(kinds):
            raise self._bad(
                key, f"must have exactly the keys {', '.join(kinds)}, not {sorted(value)}"
            )

    def _pad(self) -> dict[str, int]:
        pad = self._object("pad")
        for column, width in pad.items():
            if not _is_count(width):
                raise self._bad(f"pad.{column}", f"must be a whole number above 0, not {width!r}")
        return pad

    def _unknown(
        self, models: Mapping[ModelKind, ModelSpec]
    ) -> dict[ModelKind, Mapping[str, UnknownValue]]:
        unknown = self._object("unknown")
        rows: dict[ModelKind, Mapping[str, UnknownValue]] = {}
        for kind in MODEL_KINDS:
            if kind in unknown:
                rows[kind] = self._unknown_row(models[kind], unknown[kind])
        if extra := sorted(set(unknown) - set(MODEL_KINDS)):
            raise self._bad("unknown", f"has the key {extra[0]!r}, which is no model")
        return rows

    def _unknown_row(self, model: ModelSpec, row: object) -> Mapping[str, UnknownValue]:
        where = f"unknown.{model.kind}"
        if not isinstance(row, dict):
            raise self._bad(where, "must be an object: one row of the model's inputs")
        found: dict[str, UnknownValue] = {}
        for name, column in model.inputs.items():
            key = column if column in row else name
            if key not in row:
                raise self._bad(where, f"lacks the column {column!r} that feeds {model.file}")
            found[column] = row[key]
        if model.kind == "item" and "category_id" in row:
            found["category_id"] = row["category_id"]
        for key, value in found.items():
            flat = value if isinstance(value, list) else [value]
            if not all(isinstance(v, int | float) or (v is None and value is None) for v in flat):
                raise self._bad(f"{where}.{key}", "must be a number or a list of numbers")
        return found

    def _sha256(self) -> dict[str, str]:
        digests = self._object("sha256")
        for file, digest in digests.items():
            where = f"sha256.{file}"
            if not isinstance(digest, str) or len(digest) != 64:
                raise self._bad(where, "must be 64 hexadecimal digits")
            if not _inside(self._root, file, where).is_file():
                raise BundleError(file, f"is not in the bundle, though {where} names it")
        return {file: digest.lower() for file, digest in digests.items()}


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_finite(value: object) -> bool:
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _inside(root: Path, relative: str, where: str) -> Path:
    """Return where a bundle's file lies, having checked that no symlink leads outside."""
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in relative:
        raise BundleError(
            MANIFEST, f"{where!r} is {relative!r}, which is no path inside the bundle"
        )
    path = root / pure
    if not path.resolve().is_relative_to(root):
        raise BundleError(MANIFEST, f"{where!r} is {relative!r}, which leads outside the bundle")
    return path


def check_digests(bundle: Bundle) -> dict[str, str]:
    """Hash every model and table file, compare with the manifest, and return the digests.

    Raises
    ------
    BundleError
        If a file cannot be read, or is not the one that the manifest was written for.
    """
    files = {m.file for m in bundle.models.values()} | set(bundle.sha256)
    for kind in TABLE_KINDS:
        files.update(bundle.table_files(kind))
    digests: dict[str, str] = {}
    for file in sorted(files):
        try:
            with bundle.path(file).open("rb") as stream:
                digests[file] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as exc:
            raise BundleError(file, f"cannot be read: {exc.strerror}") from exc
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
