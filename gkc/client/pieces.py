"""A question of more rows than are answered at once: asked in pieces, and their answers joined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from gkc.center.question import Columns, Question
from gkc.client.knowledge import Knowledge
from gkc.errors import GenerationChangedError, InvalidFieldsError


async def ask_in_pieces(
    question: Question, max_rows: int, ask: Callable[[Question], Awaitable[Knowledge]]
) -> Knowledge:
    """Ask the pieces one after the other; those of another generation than the last, once more.

    Raises
    ------
    GenerationChangedError
        If they are of another one still.
    InvalidFieldsError
        If those of several versions are of unequal widths.
    """
    pieces = pieces_of(question, max_rows)
    answers = [await ask(piece) for piece in pieces]
    if len(answers) == 1:
        return answers[0]
    latest = {v: generation for answer in answers for v, generation in answer.versions.items()}
    for place, piece in enumerate(pieces):
        if not answers[place].versions.items() <= latest.items():
            answers[place] = await ask(piece)
            _check_generations(answers[place], latest)
    return _joined(answers, latest)


def pieces_of(question: Question, max_rows: int) -> list[Question]:
    """Return questions of at most so many rows that together ask the same."""
    n = question.columns.n
    if n <= max_rows:
        return [question]
    pieces = []
    for start in range(0, n, max_rows):
        columns = _with_own_versions(question.columns.at(slice(start, start + max_rows)))
        pieces.append(replace(question, columns=columns))
    return pieces


def _with_own_versions(columns: Columns) -> Columns:
    """Return the columns with those of their versions alone that a row names."""
    if len(columns.versions) == 1:
        return columns
    places, index = np.unique(columns.version_index, return_inverse=True)
    names = tuple(columns.versions[place] for place in places)
    return Columns(
        columns.n,
        columns.users,
        columns.items,
        columns.categories,
        columns.has_category,
        names,
        index if len(names) > 1 else np.zeros(1, dtype=np.int64),
        columns.pointers,
    )


def _check_generations(answer: Knowledge, latest: Mapping[str, str]) -> None:
    for version, generation in answer.versions.items():
        if generation != latest[version]:
            raise GenerationChangedError(version, latest[version], generation)


def _joined(answers: Sequence[Knowledge], versions: Mapping[str, str]) -> Knowledge:
    if any(answer.parts != answers[-1].parts for answer in answers):
        raise InvalidFieldsError(
            f"names versions of unequal widths ({', '.join(versions)}); ask for each by itself",
            "/v",
        )
    return Knowledge(
        np.concatenate([answer.rows for answer in answers]),
        np.concatenate([answer.status for answer in answers]),
        answers[-1].parts,
        versions,
        {version: entry for answer in answers for version, entry in answer.described.items()},
        max((answer.age for answer in answers if answer.age is not None), default=None),
    )
