"""Questions of any length answered as Arrow columns, some rows at a time, by the one rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from gkc.arrays import I64
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Plan, Records, VersionPlan
from gkc.center.question import Columns, Question, RowsAnswer
from gkc.errors import CommandError, InvalidFieldsError
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS
from gkc.offline.form import KnowledgeForm, Spans, width_of
from gkc.store import GenerationManifest
from gkc.strings import Ids

_MOST_ROWS: Final = 4096
_LEAST_ROWS: Final = 256
_RECORD_BYTES: Final = 8 << 20
"""Of users' records that are held at once, about."""

STATUSES: Final = (ABSENT, FOUND, DEFAULT)
_FIELDS: Final = {"/v": "the table", "/dtype": "type"}
"""What in a question may be refused, in words of tables."""

Fetch = Callable[[GenerationManifest, Ids], Records]
"""Returns the records of distinct users, None for one who is not there."""


class RowLayer:
    """Answers questions from some generations.

    Parameters
    ----------
    generations : mapping of str to LoadedGeneration
        By version.
    fetch : callable
        Reads users' records.
    form : KnowledgeForm

    Attributes
    ----------
    spans : mapping of str to (int, int)
        First and end number of each part in a row.
    counts : ndarray, shape (4, 3), int64
        How often each part had each status, among all rows so far.

    Raises
    ------
    CommandError
        If rows of these versions and in this form cannot be answered, or have no numbers.
    """

    def __init__(
        self, generations: Mapping[str, LoadedGeneration], fetch: Fetch, form: KnowledgeForm
    ) -> None:
        self._generations = generations
        self._fetch = fetch
        self._form = form
        self.counts: I64 = np.zeros((len(PARTS), len(STATUSES)), dtype=np.int64)
        self.spans = _spans(generations, form)
        largest = max(g.manifest.spec.mean_record_bytes for g in generations.values())
        self._at_once = max(_LEAST_ROWS, min(_MOST_ROWS, _RECORD_BYTES // largest))

    def plan(self, columns: Columns) -> Plan:
        """Return how some rows are answered."""
        return Plan(Question(columns, self._form.parts, self._form.dtype), self._generations)

    def lay(self, columns: Columns) -> Iterator[RowsAnswer]:
        """Yield the answers to some rows, piece by piece.

        Raises
        ------
        StoreError
            If users cannot be read, or are damaged.
        """
        for start in range(0, columns.n, self._at_once):
            piece = columns.at(slice(start, start + self._at_once))
            plan = self.plan(piece)
            answer = plan.finish([self._records(version) for version in plan.versions])
            assert isinstance(answer, RowsAnswer)
            for counts in answer.counts.values():
                self.counts += counts.reshape(self.counts.shape)
            yield answer

    def _records(self, version: VersionPlan) -> Records:
        users = version.users
        return self._fetch(version.manifest, users) if len(users) else ()

    def columns(self, columns: Columns) -> tuple[pa.ChunkedArray, ...]:
        """Return the columns that are added to some rows; as `lay`."""
        return self._form.columns(list(self.lay(columns)))


def _spans(generations: Mapping[str, LoadedGeneration], form: KnowledgeForm) -> Spans:
    """Ask for no row, by the rule that knows what can be answered."""
    no_ids = np.zeros(0, dtype=np.int64)
    columns = Columns(0, no_ids, no_ids, None, None, tuple(generations), no_ids)
    try:
        plan = Plan(Question(columns, form.parts, form.dtype), generations)
    except InvalidFieldsError as exc:
        told = (f"{_FIELDS[e.field]} {e.detail}" for e in exc.errors)
        raise CommandError("; ".join(told)) from exc
    answer = plan.finish([()] * len(plan.versions))
    assert isinstance(answer, RowsAnswer)
    if not width_of(answer.spans):
        raise CommandError(f"{', '.join(form.parts)} of these versions have no numbers at all")
    return answer.spans
