"""Records in mapped files that never change: one that was checked needs no second check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gkc.arrays import I64
from gkc.store import GenerationManifest, RecordCodec, hash_ids
from gkc.strings import Ids, StringIds

_SLOT_BITS: Final = 22


class CheckedOnce(RecordCodec):
    """Checks records, and remembers some millions of users whose record was checked last.

    A user's record takes longer to check than to lay, and tables name users again and again.

    Parameters
    ----------
    manifest : GenerationManifest
    """

    def __init__(self, manifest: GenerationManifest) -> None:
        spec = manifest.spec
        super().__init__(manifest.generation, spec.element_type, spec.dim, spec.category_dim)
        # The user who was checked last, of those with these first bits of the hash. Zeros are no
        # user but in the slot of 0, which gets another one.
        self._keys = np.zeros(1 << _SLOT_BITS, dtype=np.int64)
        self._keys[_slots(np.zeros(1, dtype=np.int64))] = 1

    def check_all(self, users: Ids, records: Sequence[bytes | memoryview | None]) -> None:
        """Check the records of those users whose record may not have been checked."""
        keys = _numbers_of(users)
        slots = _slots(keys)
        new = np.flatnonzero(self._keys[slots] != keys)
        super().check_all(users[new], [records[row] for row in new.tolist()])
        self._keys[slots[new]] = keys[new]


def _numbers_of(users: Ids) -> I64:
    """Return a number for each user: of a string no key, as two whose key is one can be made up."""
    if isinstance(users, StringIds):
        # Python's hash has a seed that nobody outside knows.
        return np.fromiter(map(hash, users.tolist()), dtype=np.int64, count=len(users))
    return users


def _slots(keys: I64) -> I64:
    return (hash_ids(keys) >> np.uint64(64 - _SLOT_BITS)).view(np.int64)
