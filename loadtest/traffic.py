"""Traffic of ranking models: one user and many candidates a request, drawn beforehand.

Users follow Zipf's law with exponent 1: the user of rank k is asked for in proportion to 1 / k.
Candidates are drawn evenly, the hardest case for a memory. A share of the users and of the
candidates is cold: their ids are negative, which no export of ours holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.plan import GROUPS, JSON, SAFETENSORS, Question

MEDIAN_CANDIDATES = 100
SIGMA = 1.5
"""Of the logarithm of the number of candidates."""
MAX_CANDIDATES = GROUPS[-1][1]
COLD_USERS = 0.05
COLD_ITEMS = 0.02
JSON_ANSWERS = 0.1

DESCRIPTION = (
    f"users by Zipf's law with exponent 1; 1 to {MAX_CANDIDATES:,} candidates, log-normal with "
    f"median {MEDIAN_CANDIDATES} and sigma {SIGMA:g}, drawn evenly; {COLD_USERS:.0%} of the users "
    f"and {COLD_ITEMS:.0%} of the candidates cold; one version a request, evenly; "
    f"{JSON_ANSWERS:.0%} of the answers JSON in f32, the others safetensors in f16"
)

_COLD_IDS = 2**40

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ids:
    """The ids of all users, or of all items: ``first``, ``first`` + ``step`` and so on."""

    count: int
    first: int = 0
    step: int = 1

    def take(self, ranks: Integers) -> Integers:
        """Return the ids of some ranks, which count from 0."""
        return self.first + self.step * ranks


@dataclass(frozen=True)
class Known:
    """What a service knows."""

    widths: dict[str, int]
    """Numbers in a row, by version."""
    users: Ids
    items: Ids
    is_complete: bool
    """Whether all these ids were exported."""


def draw(known: Known, count: int, seed: int = 0) -> list[Question]:
    """Draw requests.

    Parameters
    ----------
    known : Known
        Whom and what is asked for.
    count : int
        How many.
    seed : int
        Of the draw.

    Returns
    -------
    list of Question
        In the order in which they are to be sent.
    """
    rng = np.random.default_rng(seed)
    users = _chill(rng, known.users.take(zipf_ranks(rng, known.users.count, count)), COLD_USERS)
    versions = rng.choice(list(known.widths), count).tolist()
    is_json = rng.random(count) < JSON_ANSWERS
    questions = []
    for k, rows in enumerate(candidate_counts(rng, count).tolist()):
        ranks = rng.integers(0, known.items.count, rows, dtype=np.int64)
        items = _chill(rng, known.items.take(ranks), COLD_ITEMS)
        body: dict[str, Any] = {"u": int(users[k]), "i": items.tolist(), "v": versions[k]}
        question = Question(JSON, body) if is_json[k] else Question(SAFETENSORS, body | _HALF)
        questions.append(question)
    return questions


def zipf_ranks(rng: np.random.Generator, of: int, count: int) -> Integers:
    """Draw ranks by Zipf's law with exponent 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    of : int
        How many ranks there are.
    count : int
        How many are drawn.

    Returns
    -------
    ndarray, shape (count,), int64
        From 0, the most frequent, to ``of`` - 1. Rank k is drawn with probability
        log((k + 2) / (k + 1)) / log(``of`` + 1), which falls as 1 / k.
    """
    drawn = np.floor((of + 1.0) ** rng.random(count)).astype(np.int64)
    return np.minimum(drawn, of) - 1


def candidate_counts(rng: np.random.Generator, count: int) -> Integers:
    """Draw numbers of candidates.

    Parameters
    ----------
    rng : numpy.random.Generator
    count : int
        How many requests.

    Returns
    -------
    ndarray, shape (count,), int64
        1 to ``MAX_CANDIDATES``.
    """
    drawn = rng.lognormal(math.log(MEDIAN_CANDIDATES), SIGMA, count)
    return np.clip(np.rint(drawn), 1, MAX_CANDIDATES).astype(np.int64)


_HALF = {"dtype": "f16"}


def _chill(rng: np.random.Generator, ids: Integers, share: float) -> Integers:
    """Put ids that were never exported in place of a share of the ids."""
    cold = -rng.integers(1, _COLD_IDS, len(ids), dtype=np.int64)
    return np.where(rng.random(len(ids)) < share, cold, ids)
