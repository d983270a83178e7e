"""Knowledge as a running service answers it, for training and for comparisons."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import numpy as np

from gkc.arrays import F32, I64
from gkc.client import Client
from gkc.knowledge import PARTS

Named = Callable[[str, I64], Any]

TIMEOUT_SECONDS: Final = 600.0
"""For all rows of a day, which are asked for in many pieces."""


class ServedKnowledge:
    """Knowledge of one version from the service at ``url``.

    ``named`` returns ids of a kind as the store has them, `keep.log.Log.named` of a log whose
    source has strings; without it the store has the log's.

    ``status_counts`` sums up the statuses of every answer: a row for each of ``PARTS``, columns
    absent, found, default.
    """

    def __init__(self, url: str, version: str, named: Named | None = None) -> None:
        self.url = url
        self.version = version
        self._named = named or (lambda _kind, ids: ids)
        self.status_counts: I64 = np.zeros((len(PARTS), 3), dtype=np.int64)
        self._client = Client(url, timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> ServedKnowledge:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        self._client.close()

    def __call__(self, users: I64, items: I64, categories: I64 | None = None) -> F32:
        """Return rows of equation 6, read-only; without categories, of the items' own.

        Raises
        ------
        GkcError
            Whatever `gkc.Client.knowledge` raises.
        """
        answer = self._client.knowledge(
            u=self._named("user", users),
            i=self._named("item", items),
            c=None if categories is None else self._named("category", categories),
            v=self.version,
        )
        for counts, column in zip(self.status_counts, answer.status.T, strict=True):
            counts += np.bincount(column, minlength=3)
        return answer.rows.astype(np.float32, copy=False)
