"""What an answer is laid into, in either layout: rows of all users at once, or of some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np

from gkc.arrays import I64, U8, Array, Bools
from gkc.center.question import Columns, FactoredAnswer, Question, RowsAnswer
from gkc.knowledge import PARTS, Part, Vectors
from gkc.rows import RowForm, Rows, distinct, row_form
from gkc.store import GenerationSpec
from gkc.strings import Ids

Sources = tuple[Mapping[str, str], Mapping[str, str], Mapping[str, I64]]
"""By version: its generation; its tasks as JSON, where it has some; the counts of its statuses."""


class Portion(Protocol):
    """Rows of some users, whose records are there when they are laid."""

    users: Ids
    user_index: I64 | None
    columns: Columns
    answer_rows: I64 | None

    def lay(
        self,
        form: RowForm,
        knowledge: Vectors,
        status: U8 | None = None,
        resolved: tuple[I64, Bools] | None = None,
        rows: Rows | None = None,
    ) -> Iterable[None]:
        """Lay these rows, or others of the same users; has an element for each pause."""
        ...


class RowsLaying:
    """An answer whose parts lie side by side.

    Parameters
    ----------
    question : Question
    spec : GenerationSpec
        Of any of its versions: their widths are equal.
    """

    def __init__(self, question: Question, spec: GenerationSpec) -> None:
        n = question.columns.n
        self._form = form = row_form(question.parts, spec.dim, spec.category_dim, question.dtype)
        self._knowledge: Vectors = np.empty((n, form.width), dtype=form.dtype)
        self._status = np.empty((n, len(PARTS)), dtype=np.uint8)

    def lay(self, portion: Portion) -> Iterable[None]:
        """Lay the rows of a portion; has an element for each pause."""
        return portion.lay(self._form, self._knowledge, self._status)

    def answer(self, sources: Sources) -> RowsAnswer:
        """Return the answer, which is right once all rows are laid."""
        generations, tasks, counts = sources
        spans = self._form.spans
        return RowsAnswer(generations, spans, self._status, counts, self._knowledge, tasks)


class FactoredLaying:
    """Each distinct vector once: those of every row's item, of users, and of pairs.

    All are rows of a single part, laid by the one rule, in the stored precision.

    Parameters
    ----------
    question : Question
    spec : GenerationSpec
    users : ndarray, shape (U,), int64, or StringIds of as many
        All distinct users.
    user_index : ndarray, shape (n,), int64, or None
        Which of them each row has; None where there is one.
    """

    def __init__(
        self, question: Question, spec: GenerationSpec, users: Ids, user_index: I64 | None
    ) -> None:
        n, parts = question.columns.n, question.parts
        self._question, self._spec = question, spec
        self._status = np.empty((n, len(PARTS)), dtype=np.uint8)
        of_items: tuple[Part, ...] = ("item",) if "user_item" in parts or "item" in parts else ()
        self._items = self._vectors(n, *of_items)
        self._tensors: dict[str, Array] = {"item": self._items[1]} if of_items else {}
        self._users: tuple[RowForm, Vectors] | None = None
        self._users_laid = 0
        if "user_item" in parts or "user" in parts:
            self._users = self._vectors(len(users), "user")
            index = np.zeros(n, dtype=np.int64) if user_index is None else user_index
            self._tensors["user"] = self._users[1]
            self._tensors["user_index"] = index.astype(np.int32)
        self._pairs: list[Vectors] | None = [] if "user_category" in parts else None
        self._pairs_laid = 0
        self._pair_index: I64 | None = None

    def lay(self, portion: Portion) -> Iterator[None]:
        """Lay the rows of a portion, of the users next in order; has an element for each pause."""
        n = portion.columns.n
        resolved = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.bool_)
        yield from portion.lay(*self._items, self._status, resolved)
        if self._users is not None:
            users = np.arange(len(portion.users), dtype=np.int64)
            places = None if portion.answer_rows is None else users + self._users_laid
            alone = Rows(len(users), None, user_index=users, answer_rows=places)
            yield from portion.lay(*self._users, rows=alone)
            self._users_laid += len(users)
        if self._pairs is not None:
            yield from self._lay_pairs(portion, resolved, self._pairs)

    def _lay_pairs(
        self, portion: Portion, resolved: tuple[I64, Bools], pairs: list[Vectors]
    ) -> Iterator[None]:
        user_index = portion.user_index
        if user_index is None:
            user_index = np.zeros(portion.columns.n, dtype=np.int64)
        first, index = distinct(user_index, resolved)
        columns = portion.columns.at(first)
        given = columns.items, columns.categories, columns.has_category
        form, tensor = self._vectors(len(first), "user_category")
        yield from portion.lay(form, tensor, rows=Rows(len(first), *given, user_index[first]))
        pairs.append(tensor)
        if portion.answer_rows is None:
            self._pair_index = index
            return
        if self._pair_index is None:
            self._pair_index = np.empty(len(self._status), dtype=np.int64)
        self._pair_index[portion.answer_rows] = index + self._pairs_laid
        self._pairs_laid += len(first)

    def answer(self, sources: Sources) -> FactoredAnswer:
        """Return the answer, once all rows are laid."""
        generations, tasks, counts = sources
        question, spec, tensors = self._question, self._spec, self._tensors
        if self._pairs is not None and self._pair_index is not None:
            pairs, index = self._pairs[0], self._pair_index
            if len(self._pairs) > 1:  # they are to come in order of first appearance
                first, numbers = distinct(index)
                pairs, index = np.concatenate(self._pairs)[index[first]], numbers
            tensors["user_category"] = pairs
            tensors["user_category_index"] = index.astype(np.int32)
        spans = row_form(question.parts, spec.dim, spec.category_dim, question.dtype).spans
        return FactoredAnswer(generations, spans, self._status, counts, tensors, tasks)

    def _vectors(self, rows: int, *parts: Part) -> tuple[RowForm, Vectors]:
        stored = "f16" if self._spec.element_type == "f16" else "f32"
        form = row_form(parts, self._spec.dim, self._spec.category_dim, stored)
        return form, np.empty((rows, form.width), dtype=form.dtype)
