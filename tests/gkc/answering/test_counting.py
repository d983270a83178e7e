"""What fails still fails: damage is counted, and nothing is where nobody counts."""

from __future__ import annotations

import pytest

from gkc.answering.counting import DamageCount, NoCounting
from gkc.errors import GenerationCorruptError, StoreUnavailableError
from gkc.http.metrics import Metrics


def test_what_happens_inside_is_left_alone() -> None:
    counting = NoCounting()
    with counting.store_operation("catalogue"):
        counting.store_error("catalogue")
    with pytest.raises(StoreUnavailableError), counting.store_operation("catalogue"):
        raise StoreUnavailableError("x", "refused")


def test_damage_is_counted_and_nothing_else_is() -> None:
    metrics = Metrics()
    count = DamageCount(metrics, "fetch_users")
    with count:
        pass
    with pytest.raises(StoreUnavailableError), count:
        raise StoreUnavailableError("x", "refused")
    assert (
        'gkc_store_errors_total{operation="fetch_users"} 0.0' in metrics.render(None, True).decode()
    )
    with pytest.raises(GenerationCorruptError), count:
        raise GenerationCorruptError("g", "a record is damaged")
    assert (
        'gkc_store_errors_total{operation="fetch_users"} 1.0' in metrics.render(None, True).decode()
    )
