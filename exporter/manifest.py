"""``manifest.json`` as typed records, read strictly: what it may hold, and what each fault is."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, Final, Literal, NoReturn, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from exporter.errors import BundleError
from gkc.store import Origin

BUNDLE_FORMAT: Final = "gkc-bundle/1"
MANIFEST: Final = "manifest.json"

ModelKind = Literal["user", "item", "user_category"]
MODEL_KINDS: Final[tuple[ModelKind, ...]] = get_args(ModelKind)
TableKind = Literal["users", "items", "user_categories"]
TABLE_KINDS: Final[tuple[TableKind, ...]] = get_args(TableKind)
TABLE_OF: Final[Mapping[ModelKind, TableKind]] = dict(zip(MODEL_KINDS, TABLE_KINDS, strict=True))
"""The table whose rows a model has one output for."""
ID_COLUMNS: Final[Mapping[TableKind, tuple[str, ...]]] = {
    "users": ("user_id",),
    "items": ("item_id", "category_id"),
    "user_categories": ("user_id", "category_id"),
}
"""The key of each table, then the category that its rows have."""

_MOST_WIDTH: Final = 65_536
_MOST_NAME: Final = 200
_MOST_SHOWN_BYTES: Final = 16_384
"""Of each key of `Manifest.origin`, which the store's catalogue carries along."""

Number = int | float | bool
UnknownValue = Number | str | list[Number | str] | None
Text = Annotated[str, Meta(min_length=1)]
Columns = Annotated[list[Text], Meta(min_length=1)]
Width = Annotated[int, Meta(ge=1, le=_MOST_WIDTH)]
Time = Annotated[datetime, Meta(tz=True)]
Plain = str | int | float | bool | None
Digest = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object all of whose keys are known: another one is a typing error."""


class ModelEntry(Record, frozen=True):
    """What the manifest says of one model.

    Attributes
    ----------
    file : str
        Relative to the bundle.
    output : str
        The ONNX output that is the knowledge.
    inputs : dict of str to str
        Column that feeds each ONNX input, or columns that feed it side by side.
    """

    file: Text
    output: Text
    inputs: Annotated[dict[str, Text | Columns], Meta(min_length=1)]

    def columns(self) -> list[str]:
        """Return all columns that feed it."""
        return [column for fed in self.inputs.values() for column in columns_of(fed)]


def columns_of(fed: str | list[str]) -> list[str]:
    """Return the columns that feed an input, be they one or several."""
    return [fed] if isinstance(fed, str) else fed


class Models(Record, frozen=True):
    """The models; that of user_category only with its table."""

    user: ModelEntry
    item: ModelEntry
    user_category: ModelEntry | None = None


class Tables(Record, frozen=True):
    """A file or a folder each, relative to the bundle."""

    users: Text
    items: Text
    user_categories: Text | None = None


class Unknown(Record, frozen=True):
    """One row of a model's inputs each: its output answers for ids that were not exported."""

    user: dict[str, UnknownValue] | None = None
    item: dict[str, UnknownValue] | None = None
    user_category: dict[str, UnknownValue] | None = None


class Task(Record, frozen=True):
    """One task of pretraining, and how wide its vectors are."""

    name: Text
    dim: Width


class Run(Record, frozen=True):
    """The training run that the models come from."""

    id: Text | None = None
    commit: Text | None = None
    log_sha256: Text | None = None


class CompatibleVersion(Struct, frozen=True):
    """An older version in whose axes the vectors lie; may say more than this."""

    checkpoint: Text
    method: Text = "unsaid"
    day: int = 0
    relative_error: dict[str, float] = {}


class Manifest(Record, frozen=True):
    """All that a manifest may say; docs/bundle.md tells what each key is for."""

    format: Literal["gkc-bundle/1"]
    name: Annotated[str, Meta(min_length=1, max_length=_MOST_NAME)]
    dim: Width
    models: Models
    tables: Tables
    category_dim: Annotated[int, Meta(ge=0, le=_MOST_WIDTH)] = 0
    created_at: Time | None = None
    pad: dict[str, Annotated[int, Meta(ge=1)]] = {}
    unknown: Unknown = field(default_factory=Unknown)
    sha256: dict[str, Digest] = {}
    compatible_with: list[dict[str, Plain | list[Plain] | dict[str, Plain]]] = []
    tasks: list[Task] = []
    task_weights: list[list[float]] | dict[str, list[float]] = []
    vector_space: Text | None = None
    data_until: Time | None = None
    run: Run = field(default_factory=Run)
    extra: dict[str, Any] = {}

    def all_models(self) -> dict[ModelKind, ModelEntry]:
        """Return what is said of each model that there is."""
        models = {kind: getattr(self.models, kind) for kind in MODEL_KINDS}
        return {kind: model for kind, model in models.items() if model is not None}

    def all_tables(self) -> dict[TableKind, str]:
        """Return the file or folder of each table that there is."""
        tables = {kind: getattr(self.tables, kind) for kind in TABLE_KINDS}
        return {kind: table for kind, table in tables.items() if table is not None}

    def unknown_row(self, kind: ModelKind) -> dict[str, UnknownValue] | None:
        """Return the row for unknown ids by column; the manifest may also name the inputs.

        Raises
        ------
        BundleError
            If it lacks a column, or names one that nobody reads.
        """
        row: dict[str, UnknownValue] | None = getattr(self.unknown, kind)
        if row is None:
            return None
        where, model = f"unknown.{kind}", self.all_models()[kind]
        by_column: dict[str, UnknownValue] = {}
        alone = [name for name, fed in model.inputs.items() if isinstance(fed, str)]
        for name, fed in model.inputs.items():
            for column in columns_of(fed):
                key = name if name in alone and column not in row else column
                if key not in row:
                    raise bad_key(where, f"lacks the column {column!r} that feeds {model.file}")
                by_column[column] = row[key]
        known = {*alone, *model.columns(), *ID_COLUMNS[TABLE_OF[kind]]}
        if strangers := [key for key in row if key not in known]:
            hint = nearest(strangers[0], sorted(known))
            raise bad_key(f"{where}.{strangers[0]}", f"feeds no input of {model.file}; {hint}")
        if kind == "item" and "category_id" in row:
            by_column["category_id"] = row["category_id"]
        return by_column

    def origin(self, vector_space: str | None = None) -> Origin:
        """Return what is kept and shown of where the vectors come from.

        ``vector_space`` is the one to name if the manifest names none.
        """
        run = asdict(self.run)
        return Origin(
            compatible_with=self.compatible_with,
            tasks=[asdict(task) for task in self.tasks],
            task_weights=self.task_weights,
            vector_space=self.vector_space or vector_space,
            data_until=None if self.data_until is None else self.data_until.isoformat(),
            run={name: text for name, text in run.items() if text is not None},
        )


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest's bytes.

    Raises
    ------
    BundleError
        If they are not JSON, or break the format anywhere; names the key.
    """
    try:
        value = json.loads(
            raw,
            object_pairs_hook=_without_repetition,
            parse_constant=_refuse_number,
            parse_float=_finite,
        )
        # JSON may name half of a character by its number, which is no text.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else exc
        raise BundleError(MANIFEST, f"is not JSON: {reason}") from exc
    if not isinstance(value, dict):
        raise BundleError(MANIFEST, "must be a JSON object")
    manifest: Manifest = _converted(value, Manifest, ())
    for place, version in enumerate(manifest.compatible_with):
        _converted(version, CompatibleVersion, ("compatible_with", place))
    for key, shown in asdict(manifest.origin()).items():
        if len(json.dumps(shown)) > _MOST_SHOWN_BYTES:
            raise bad_key(key, f"must be shorter than {_MOST_SHOWN_BYTES:,} bytes")
    names = [task.name for task in manifest.tasks]
    for place, name in enumerate(names):
        if (first := names.index(name)) < place:
            raise bad_key(f"tasks.{place}.name", f"is {name!r}, as that of 'tasks.{first}' is")
    _check_user_category(manifest)
    columns = {c for model in manifest.all_models().values() for c in model.columns()}
    for column in manifest.pad:
        if column not in columns:
            hint = nearest(column, sorted(columns))
            raise bad_key(f"pad.{column}", f"is no column that a model reads; {hint}")
    return manifest


def _check_user_category(manifest: Manifest) -> None:
    """Check that all or nothing is said of user_category, whose vectors a bundle may do without."""
    model, table = "models.user_category", "tables.user_categories"
    has_model = manifest.models.user_category is not None
    has_table = manifest.tables.user_categories is not None
    if has_model != has_table:
        there, missing = (model, table) if has_model else (table, model)
        raise bad_key(missing, f"must be there, since {there!r} is; or leave out both")
    if has_model and not manifest.category_dim:
        raise bad_key("category_dim", f"must be there and at least 1, since {model!r} is there")
    if not has_model and manifest.category_dim:
        raise bad_key("category_dim", f"must be 0 or left out, since {model!r} is not there")
    if not has_model and manifest.unknown.user_category is not None:
        raise bad_key("unknown.user_category", f"must be left out, since {model!r} is not there")


def bad_key(key: str, problem: str) -> BundleError:
    """Build the error about one key of the manifest, written with dots."""
    return BundleError(MANIFEST, f"{key!r} {problem}")


def nearest(word: str, known: list[str]) -> str:
    """Return a hint at what was meant by a word that nobody knows."""
    close = difflib.get_close_matches(word[:_MOST_NAME], known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


Steps = tuple[str | int, ...]
"""Keys and places that lead to a value."""

_NAMES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "datetime": "a time as RFC 3339 writes it",
}
_EXPECTED: Final = re.compile(r"Expected `(.+?)`( matching regex .+| [^,]+)?(?:, got `(.+?)`)?")
_FIELD: Final = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`", re.DOTALL)


def _converted(value: Any, record: Any, above: Steps) -> Any:  # noqa: ANN401 - JSON of any kind
    """Give plain JSON the types of a record, or say which key does not fit and why."""
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as exc:
        problem, _, place = str(exc).rpartition(" - at `$")
        problem, place = (problem, place[:-1]) if problem else (place, "")
        path = _path(value, record, place, problem)
        raise _fault(record, above, path, value, problem) from exc


def _path(value: Any, record: Any, place: str, problem: str) -> Steps:  # noqa: ANN401
    """Return the keys that lead to a fault; msgspec leaves out the key of a mapping."""
    path: Steps = ()
    for step in re.findall(r"\[\.\.\.\]|\[\d+\]|[^.\[\]]+", place):
        if step == "[...]":
            path += (_key_at_fault(value, record, path, problem),)
        else:
            path += (int(step[1:-1]) if step[0] == "[" else step,)
    return path


def _key_at_fault(value: Any, record: Any, path: Steps, problem: str) -> str:  # noqa: ANN401
    """Find the key of a mapping whose value has a fault, by looking at each of them alone."""
    mapping = _at(value, path)
    for key, item in mapping.items():
        try:
            msgspec.convert(_replaced(value, path, {key: item}), record)
        except msgspec.ValidationError as exc:
            if str(exc).startswith(problem):
                return str(key)
    raise AssertionError(f"no key of {path} has the fault {problem}")


def _at(value: Any, path: Steps) -> Any:  # noqa: ANN401
    for step in path:
        value = value[step]
    return value


def _replaced(value: Any, path: Steps, new: Any) -> Any:  # noqa: ANN401
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def _fault(
    record: Any,  # noqa: ANN401
    above: Steps,
    path: Steps,
    value: Any,  # noqa: ANN401
    problem: str,
) -> BundleError:
    if named := _FIELD.fullmatch(problem):
        key = _dotted((*above, *path, named[1]))
        if "missing" in problem.partition("`")[0]:
            return bad_key(key, "must be there")
        return bad_key(key, f"is no key of a manifest; {nearest(named[1], _keys(record, path))}")
    key = _dotted((*above, *path))
    unfit = _at(value, path)
    shown = "" if isinstance(unfit, dict | list) else f", not {json.dumps(unfit)[:80]}"
    return bad_key(key, f"must be {_expected(problem)}{shown}")


def _expected(problem: str) -> str:
    """Say in words of ours what msgspec would have accepted."""
    expected = _EXPECTED.fullmatch(problem)
    if expected is None:
        # A time or a fixed text that does not fit: msgspec says it in words of its own.
        return _NAMES["datetime"] if "RFC3339" in problem else f"{BUNDLE_FORMAT!r}"
    kinds, limit = expected[1], expected[2] or ""
    if " matching regex" in limit:
        return "64 hexadecimal digits"
    if kinds in ("str", "object", "array") and limit == " of length >= 1":
        return f"{_NAMES[kinds]} that is not empty"
    if kinds == "datetime":
        return _NAMES["datetime"] + ", with its offset from UTC"
    return " or ".join(_NAMES.get(kind, kind) for kind in kinds.split(" | ")) + limit


def _keys(record: Any, path: Steps) -> list[str]:  # noqa: ANN401
    """Return the keys that the record at a path knows."""
    for step in path:
        record = get_args(record)[0] if isinstance(step, int) else get_type_hints(record)[step]
        if NoneType in get_args(record):  # may be left out
            record = get_args(record)[0]
    return [str(name) for name in record.__struct_fields__]


def _dotted(path: Steps) -> str:
    return ".".join(map(str, path))
