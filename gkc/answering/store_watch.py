"""Whether the store answers, as looks at its catalogue find it; what is answered if it does not.

A generation never changes, so what is held of one is as good as on its first day. Only which one is
current may have changed: an answer is as old as the catalogue that was read last. While the store
is away nobody waits for it; whoever follows the catalogue looks whether it is back.
"""

from __future__ import annotations

import time
from random import uniform
from typing import Final

from gkc.errors import StoreUnavailableError
from gkc.store import parse_store_url

FRESH_SECONDS: Final = 2.0
"""An answer that is no older is an ordinary one."""
_AWAY_AFTER: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 1.0
"""Between two looks for a store that is away: it is found within two seconds, a look included."""
_MOST_TIMES_LONGER: Final = 5


class StoreWatch:
    """What looks at the catalogue found lately.

    Parameters
    ----------
    store : str
        Its URL, as it is shown.
    stale_seconds : float
        How old an answer may be at most, whatever its caller allows.

    Attributes
    ----------
    failure : StoreUnavailableError or None
        Why the last look failed; None if it did not.
    """

    def __init__(self, store: str, stale_seconds: float) -> None:
        self._store = store
        self._holds_all = parse_store_url(store).scheme == "file"
        self._stale_seconds = stale_seconds
        self._read_at = 0.0
        self._failed_looks = 0
        self.failure: StoreUnavailableError | None = None

    def note(self, asked: float, failure: StoreUnavailableError | None) -> None:
        """Take note of a look that began at a moment of the monotonic clock, and how it ended."""
        self.failure = failure
        if failure is None:
            self._read_at = asked
            self._failed_looks = 0

    def note_failed_look(self) -> None:
        """Take note that a look of whoever follows the catalogue failed, and not a question's."""
        self._failed_looks += 1

    def pause(self, refresh_seconds: float) -> float:
        """Return how long to wait before the next look: while they fail longer, and by chance."""
        if not self._failed_looks:
            return refresh_seconds
        longer = refresh_seconds * min(self._failed_looks, _MOST_TIMES_LONGER)
        return min(longer, _LONGEST_PAUSE_SECONDS) * uniform(0.5, 1.0)

    def require_store(self) -> None:
        """Check that it is worth waiting for the store.

        Raises
        ------
        StoreUnavailableError
            If it is away.
        """
        if self._is_away:
            raise self._refusal("it is away")

    def require_users(self, missing: int, asked: int) -> None:
        """Check that users' records can be had of which so many are not held here.

        Raises
        ------
        StoreUnavailableError
            If they are in a store that is away.
        """
        if missing and self._is_away and not self._holds_all:
            raise self._refusal(
                f"{missing} of {asked} users are not held here, and the store is away"
            )

    def age(self, allow_stale: float) -> float | None:
        """Return how many seconds old an answer is; None for an ordinary one.

        Raises
        ------
        StoreUnavailableError
            If it is older than its caller or the operator allows.
        """
        if self.failure is None:
            return None
        age = time.monotonic() - self._read_at
        if age <= FRESH_SECONDS:
            return None
        if age > min(allow_stale, self._stale_seconds):
            limit = (
                f"the question's allow_stale of {allow_stale:g} s"
                if allow_stale <= self._stale_seconds
                else f"GKC_STALE_SECONDS, {self._stale_seconds:g} s"
            )
            raise self._refusal(f"its catalogue was read {age:.0f} s ago, longer than {limit}")
        return round(age, 3)

    @property
    def _is_away(self) -> bool:
        return self._failed_looks >= _AWAY_AFTER and self.failure is not None

    def _refusal(self, what: str) -> StoreUnavailableError:
        assert self.failure is not None
        return StoreUnavailableError(
            self._store, f"{what}: {self.failure.cause}", self.failure.remedy
        )
