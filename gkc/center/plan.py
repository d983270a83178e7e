"""A question → which users' records it needs → its answer: no I/O here, and no event loop.

A door plans a question, reads the records that the plan asks for in whatever way it has, and hands
them in; meanwhile it may have the plan find the items. Loops run over distinct versions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Final

import numpy as np
from msgspec.structs import replace

from gkc.arrays import I64, U8, Array, Bools
from gkc.center.generation import LoadedGeneration
from gkc.center.laying import FactoredLaying, RowsLaying, Sources
from gkc.center.question import (
    Answer,
    Columns,
    FactoredAnswer,
    Question,
    RowsAnswer,
)
from gkc.errors import GenerationCorruptError, InvalidFieldsError, LayoutError
from gkc.knowledge import PARTS, Vectors
from gkc.rows import Laying, RowForm, Rows, distinct, row_form
from gkc.store import GenerationManifest, GenerationSpec, joined
from gkc.strings import Ids, IdType, StringIds, distinct_strings

Records = Sequence[bytes | memoryview | None]
"""Of several users: each one's stored record, None for one who is not there."""

Lay = Callable[[], Iterable[None]]

_ROWS_AT_ONCE: Final = 4_000
_BYTES_AT_ONCE: Final = 2 << 20
"""So many rows, of so many bytes, are laid in about half a millisecond."""
_PORTION_BYTES: Final = 1 << 20
"""So many bytes of records are put together, checked and laid in about a millisecond."""


class VersionPlan:
    """The rows of one version: the users whose records they need, and what they are laid from.

    Parameters
    ----------
    name : str
        The version.
    generation : LoadedGeneration
    columns : Columns
        Its rows.
    answer_rows : ndarray, shape (n,), int64, or None
        Which rows of the question they are; None for all of them.

    Attributes
    ----------
    manifest : GenerationManifest
        Whose users are to be read.
    users : ndarray, shape (U,), int64, or StringIds of as many
        The distinct users, in order of first appearance.
    user_index : ndarray, shape (n,), int64, or None
        Which of them each row has; None where there is one.
    rows : Rows
    is_large : bool
        Whether the records of all users are more than should be held at once.
    """

    def __init__(
        self,
        name: str,
        generation: LoadedGeneration,
        columns: Columns,
        answer_rows: I64 | None = None,
    ) -> None:
        if isinstance(columns.categories, StringIds):
            columns = replace(columns, categories=_codes_of(columns.categories, generation))
        self.name, self.generation, self.columns = name, generation, columns
        self.manifest = generation.manifest
        users, user_index = columns.users if columns.n else columns.users[:0], None
        if len(users) > 1:
            first, user_index = (
                distinct_strings(users) if isinstance(users, StringIds) else distinct(users)
            )
            users = users[first]
        self.users, self.user_index, self.answer_rows = users, user_index, answer_rows
        self.is_large = len(users) > 1 and len(users) > _users_at_once(self.manifest)
        self._records = b""
        self._offsets: I64 | None = None
        self.rows = Rows(
            columns.n,
            columns.items,
            columns.categories,
            columns.has_category,
            user_index,
            answer_rows,
        )

    def portions(self) -> Iterator[VersionPlan]:
        """Return plans of some users each, in order, and of all their rows."""
        if not self.is_large or self.user_index is None:
            yield self
            return
        portion_of = self.user_index // _users_at_once(self.manifest)
        order = np.argsort(portion_of, kind="stable")
        ends = np.searchsorted(portion_of[order], np.arange(portion_of.max() + 2))
        for start, end in pairwise(ends.tolist()):
            rows = order[start:end]
            answer_rows = rows if self.answer_rows is None else self.answer_rows[rows]
            yield VersionPlan(self.name, self.generation, self.columns.at(rows), answer_rows)

    def find_items(self, rows: Rows | None = None) -> None:
        """Look items up now, and not when the rows are laid: of these rows, or of others.

        Raises
        ------
        GenerationCorruptError, GenerationNotFoundError
            If the table is damaged, or no longer there.
        """
        self.generation.items.require_whole()
        try:
            (rows or self.rows).find_items(self.generation.rows.index)
        except LayoutError as exc:
            raise GenerationCorruptError(self.manifest.generation, str(exc)) from exc

    def take(self, records: Records) -> None:
        """Take the records of `users`, None for one who is not there, before rows are laid.

        Raises
        ------
        GenerationCorruptError
            If one is damaged, or another user's.
        """
        codec = self.generation.records
        try:
            if len(records) != 1:
                self._records, self._offsets = joined(records)
            elif records[0] is not None:  # the usual question
                self._records = bytes(records[0])
                if not self._records:
                    raise LayoutError("has no bytes")
            codec.check_joined(self.users, self._records, self._offsets)
        except LayoutError as exc:
            what = f"the record of one of its users {exc}"
            raise GenerationCorruptError(self.manifest.generation, what) from exc

    def lay(
        self,
        form: RowForm,
        knowledge: Vectors,
        status: U8 | None = None,
        resolved: tuple[I64, Bools] | None = None,
        rows: Rows | None = None,
    ) -> Iterable[None]:
        """Lay these rows, or others of the same users; has an element for each pause.

        Raises
        ------
        GenerationCorruptError
            If records or tables are damaged.
        """
        rows = rows or self.rows
        if rows.must_find_items:
            self.find_items(rows)
        lay = rows.laying(
            self.generation.rows, self._records, self._offsets, form, knowledge, status, resolved
        )
        at_once = min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // (form.row_bytes + len(PARTS)) + 1)
        if rows.n <= at_once:
            self._lay_some(lay, 0, rows.n)
            return ()
        return self._lay_by_turns(rows.n, lay, at_once)

    def _lay_by_turns(self, n: int, lay: Laying, at_once: int) -> Iterator[None]:
        for start in range(0, n, at_once):
            if start:
                yield
            self._lay_some(lay, start, min(start + at_once, n))

    def _lay_some(self, lay: Laying, start: int, end: int) -> None:
        self.generation.items.require_whole()
        try:
            lay(start, end)
        except LayoutError as exc:
            raise GenerationCorruptError(self.manifest.generation, str(exc)) from exc


def _users_at_once(manifest: GenerationManifest) -> int:
    return max(1, _PORTION_BYTES // manifest.spec.mean_record_bytes)


class Plan:
    """How one question is answered.

    Parameters
    ----------
    question : Question
    generations : mapping of str to LoadedGeneration
        One for each version of the question.

    Attributes
    ----------
    versions : list of VersionPlan
        One for each version, in the question's order.
    answer : Answer
        Once `lay` has come to its end.

    Raises
    ------
    InvalidFieldsError
        If the versions' widths differ, a part might not stay finite in the answer's type, or a
        factored answer is asked for several versions.
    """

    answer: Answer

    def __init__(self, question: Question, generations: Mapping[str, LoadedGeneration]) -> None:
        columns = question.columns
        loaded = [generations[version] for version in columns.versions]
        _check_answerable(question, loaded)
        self._question = question
        if len(loaded) == 1:
            self.versions = [VersionPlan(columns.versions[0], loaded[0], columns)]
        else:
            self.versions = [
                VersionPlan(name, generation, columns.at(rows), rows)
                for k, (name, generation) in enumerate(zip(columns.versions, loaded, strict=True))
                for rows in (np.flatnonzero(columns.version_index == k),)
            ]

    @property
    def is_large(self) -> bool:
        """Whether it has to be answered portion by portion, see `portions`."""
        return any(version.is_large for version in self.versions)

    def portions(self) -> Iterator[tuple[VersionPlan, Lay]]:
        """Answer portion by portion, so that few records are held at once.

        Yields
        ------
        VersionPlan
            Is to be given its records.
        callable
            Lays its rows then; what it returns has an element for each pause.
        """
        laying = self._laying()
        for version in self.versions:
            counts = version.rows.counts
            for portion in version.portions():
                yield portion, partial(laying.lay, portion)
                if portion is not version:
                    counts += portion.rows.counts
        self.answer = laying.answer(self._sources())

    def find_items(self) -> None:
        """Look items up now, while the store reads; of very many not, which would hold others."""
        if self._question.columns.n <= _ROWS_AT_ONCE:
            for version in self.versions:
                version.find_items()

    def finish(self, records: Sequence[Records]) -> Answer:
        """Answer the question in one go; as `take`, then `lay`."""
        self.take(records)
        for _ in self.lay():
            pass
        return self.answer

    def take(self, records: Sequence[Records]) -> None:
        """Take what was read, before rows are laid.

        Parameters
        ----------
        records : sequence of sequence of bytes-like or None
            For each of `versions` the records of its users; None for one who is not there.

        Raises
        ------
        GenerationCorruptError
            If a record is damaged, or another user's.
        """
        for version, of_version in zip(self.versions, records, strict=True):
            version.take(of_version)

    def lay(self) -> Iterable[None]:
        """Answer the question; has an element for each pause, about every half millisecond.

        Raises
        ------
        GenerationCorruptError
            If tables are damaged.
        """
        if not self.versions:
            self.answer = _no_rows(self._question)
            return ()
        laying = self._laying()
        if isinstance(laying, FactoredLaying):
            return self._lay_factored(laying)
        self.answer = laying.answer(self._sources())
        if len(self.versions) == 1:
            return laying.lay(self.versions[0])
        return chain.from_iterable(map(laying.lay, self.versions))

    def _lay_factored(self, laying: FactoredLaying) -> Iterator[None]:
        yield from laying.lay(self.versions[0])
        self.answer = laying.answer(self._sources())

    def _laying(self) -> RowsLaying | FactoredLaying:
        version = self.versions[0]
        if self._question.layout == "factored":
            return FactoredLaying(
                self._question, version.manifest.spec, version.users, version.user_index
            )
        return RowsLaying(self._question, version.manifest.spec)

    def _sources(self) -> Sources:
        """Return what is told of each version."""
        generations, tasks, counts = {}, {}, {}
        for plan in self.versions:
            generations[plan.name] = plan.manifest.generation
            if plan.generation.tasks:
                tasks[plan.name] = plan.generation.tasks
            counts[plan.name] = plan.rows.counts
        return generations, tasks, counts


def _no_rows(question: Question) -> Answer:
    """Answer a question that has no rows and names no version: nothing is known of widths."""
    status = np.zeros((0, len(PARTS)), dtype=np.uint8)
    if question.layout == "rows":
        empty = np.zeros((0, 0), dtype=row_form((), 0, 0, question.dtype).dtype)
        return RowsAnswer({}, {}, status, {}, empty)
    vectors, index = np.zeros((0, 0), dtype=np.float16), np.zeros(0, dtype=np.int32)
    tensors: dict[str, Array] = {}
    if "user" in question.parts or "user_item" in question.parts:
        tensors |= {"user": vectors, "user_index": index}
    if "item" in question.parts or "user_item" in question.parts:
        tensors["item"] = vectors
    if "user_category" in question.parts:
        tensors |= {"user_category": vectors, "user_category_index": index}
    return FactoredAnswer({}, {}, status, {}, tensors)


def _codes_of(categories: StringIds, generation: LoadedGeneration) -> I64:
    """Return what stands for categories in a generation: others than it knows are negative."""
    dictionary = generation.rows.dictionary
    assert dictionary is not None  # the question was checked
    try:
        codes = dictionary.places_of(categories)
    except LayoutError as exc:
        raise GenerationCorruptError(generation.manifest.generation, str(exc)) from exc
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        _, index = distinct_strings(categories[unknown])
        codes[unknown] = -1 - index
    return codes


def _check_answerable(question: Question, loaded: Sequence[LoadedGeneration]) -> None:
    """Refuse versions of unequal widths, and parts that might not stay finite as answered."""
    if len(loaded) > 1:
        specs = [generation.manifest.spec for generation in loaded]
        if len({(spec.dim, spec.category_dim) for spec in specs}) > 1:
            widths = ", ".join(f"{s.version}: {s.dim} and {s.category_dim}" for s in specs)
            raise InvalidFieldsError(
                f"names versions of unequal widths (D and D_c: {widths})", "/v"
            )
        _check_same_id_types(specs)
        if question.layout == "factored":
            raise InvalidFieldsError(
                "factored answers one version; ask for each by itself", "/layout"
            )
    columns = question.columns
    if loaded and (
        loaded[0].has_strings
        or isinstance(columns.users, StringIds)
        or isinstance(columns.items, StringIds)
        or isinstance(columns.categories, StringIds)
    ):
        _check_id_types(columns, loaded[0].manifest.spec)
    for generation in loaded if question.layout == "rows" else ():
        overflowing = generation.overflowing[question.dtype]
        for part in question.parts:
            if part in overflowing:
                raise InvalidFieldsError(
                    f"{question.dtype} may overflow: {part} of version "
                    f"{generation.manifest.spec.version!r} goes up to {overflowing[part]:.6g}; "
                    "ask for f32, or leave that part out",
                    "/dtype",
                )


def _check_same_id_types(specs: Sequence[GenerationSpec]) -> None:
    types = {(s.user_id_type, s.item_id_type, s.category_id_type) for s in specs}
    if len(types) > 1:
        listed = "; ".join(
            f"{s.version}: {s.user_id_type}, {s.item_id_type}, {s.category_id_type}" for s in specs
        )
        raise InvalidFieldsError(
            f"names versions of unequal types of ids (user, item, category: {listed}); "
            "ask for each type by itself",
            "/v",
        )


def _check_id_types(columns: Columns, spec: GenerationSpec) -> None:
    """Refuse ids that are not of the version's types, and name the first of them."""
    users, items, categories = columns.pointers
    _check_id_type(columns.users, spec.user_id_type, "users", users, spec)
    _check_id_type(columns.items, spec.item_id_type, "items", items, spec)
    if columns.categories is not None:
        _check_id_type(
            columns.categories,
            spec.category_id_type,
            "categories",
            categories,
            spec,
            columns.has_category,
        )


def _check_id_type(
    ids: Ids,
    id_type: IdType,
    what: str,
    pointer: str,
    spec: GenerationSpec,
    is_given: Bools | None = None,
) -> None:
    if isinstance(ids, StringIds) == (id_type == "string"):
        return
    is_wrong = np.ones(len(ids), dtype=np.bool_) if is_given is None else is_given
    if is_wrong.any():
        types = ("a number", "strings") if id_type == "string" else ("a string", "integers")
        raise InvalidFieldsError(
            f"is {types[0]}, but {what} of version {spec.version!r} are {types[1]}",
            pointer.format(int(is_wrong.argmax())),
        )
