"""What is exported is what the payload counts, and stores keep more than that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench import stored_bytes
from bench.results import Section
from bench.stored_bytes import LOG_NORMAL, log_normal_pairs, main, payload_bytes


def test_the_payload_is_vectors_ids_and_categories() -> None:
    assert payload_bytes(4, np.array([3, 1, 300, 2]), 10) == (4 + 306) * (8 + 8) + 10 * (8 + 17)


def test_log_normal_pairs_have_the_median_that_is_told() -> None:
    pairs = log_normal_pairs(10_000)
    assert abs(np.median(pairs) - 30) <= 1
    assert 1 <= pairs.min() < pairs.max() <= LOG_NORMAL[2]


@pytest.mark.redis
@pytest.mark.slow
def test_each_kind_is_told_of_redis_and_of_files(
    kept: Callable[[str], Section], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_bytes, "WIDTHS", (64,))
    monkeypatch.setattr(stored_bytes, "USERS", 500)
    monkeypatch.setattr(stored_bytes, "ITEMS", 2000)
    main(save=True)
    section = kept("stored_bytes")
    kinds = [
        f"{kind}, D = 64" for kind in ("users of 40 pairs", "users of log-normal pairs", "items")
    ]
    wanted = ["≤ 1.15 / ≤ 1.08", "≤ 1.15 / ≤ 1.08", "≤ 1.1 / ≤ 1.05"]
    in_memory, on_disk = section.figures[:3], section.figures[3:]
    assert [(figure.name, figure.bounds) for figure in in_memory] == list(
        zip(kinds, wanted, strict=True)
    )
    assert [figure.name for figure in on_disk] == [f"{kind}, in files" for kind in kinds]
    # Of so few items, the 64 KiB that the catalogue's lock keeps free are a part.
    assert all(1 < figure.median < 1.5 for figure in on_disk)
    assert all(1 < figure.median < 3 for figure in in_memory)
