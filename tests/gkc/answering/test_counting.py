"""Nothing is counted where nobody counts, and what fails still fails."""

from __future__ import annotations

import pytest

from gkc.answering.counting import NoCounting
from gkc.errors import StoreUnavailableError


def test_what_happens_inside_is_left_alone() -> None:
    counting = NoCounting()
    with counting.store_operation("catalogue"):
        counting.store_error("catalogue")
    with pytest.raises(StoreUnavailableError), counting.store_operation("catalogue"):
        raise StoreUnavailableError("x", "refused")
