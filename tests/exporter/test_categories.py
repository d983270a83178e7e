"""Categories numbered as they come, then by their bytes."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from exporter.categories import Categories

texts = st.none() | st.sampled_from(["a", "b", "Zürich", "東京", "a\0", "A"])


@given(st.lists(st.lists(texts, max_size=9), max_size=5))
def test_places_are_those_among_all_in_order_of_bytes(batches: list[list[str | None]]) -> None:
    categories = Categories()
    numbers = [categories.add(pa.array(batch, pa.large_string())) for batch in batches]
    known = {text.encode() for batch in batches for text in batch if text is not None}
    assert categories.names() == sorted(known)
    for batch, of_batch in zip(batches, numbers, strict=True):
        for text, number in zip(batch, of_batch.tolist(), strict=True):
            if text is not None:
                assert categories.names()[categories.places()[number]] == text.encode()


def test_more_may_come_after_places_were_told() -> None:
    categories = Categories()
    categories.add(pa.array(["b"], pa.large_string()))
    assert categories.places().tolist() == [0]
    assert categories.add(pa.array(["a", "b"], pa.large_string())).tolist() == [1, 0]
    assert (categories.names(), categories.places().tolist()) == ([b"a", b"b"], [1, 0])
