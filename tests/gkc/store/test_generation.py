"""What a generation is made of: names, counts, and the manifest's way to JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkc.errors import LayoutError
from gkc.store import (
    Defaults,
    ElementType,
    GenerationManifest,
    GenerationSpec,
    Totals,
    is_version_name,
)

SPEC = GenerationSpec("v1", "int8", 6, 4, 100, 200, 300, "bundle", "fingerprint")

vectors = st.none() | st.binary(max_size=12)
manifests = st.builds(
    GenerationManifest,
    generation=st.text(min_size=1, max_size=9),
    spec=st.builds(
        replace,
        st.just(SPEC),
        bundle=st.text(max_size=9),
        defaults=st.builds(
            Defaults, vectors, vectors, vectors, st.none() | st.integers(-(2**63), 2**63 - 1)
        ),
    ),
    totals=st.builds(
        Totals,
        *[st.integers(0, 10**12)] * 4,
        *[st.floats(0, 2.0**127, width=32)] * 3,
    ),
    checksums=st.dictionaries(st.text(max_size=5), st.integers(0, 2**32 - 1), max_size=3),
)


@pytest.mark.parametrize("name", ["20211220", "a", "A.b_c-9", "x" * 64, ".", ".."])
def test_names_of_versions(name: str) -> None:
    assert is_version_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "a b", "é", "a\n", "a:b", "a{b}"])
def test_other_names_are_none(name: str) -> None:
    assert not is_version_name(name)


@given(manifests)
def test_a_manifest_survives_json(manifest: GenerationManifest) -> None:
    text = json.dumps(manifest.to_json())
    assert GenerationManifest.from_json(json.loads(text)) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"format": "gkc-generation/2"},
        {"format": None},
        {"spec": {}},
        {"spec": None},
        {"totals": {"users": 1, "unknown": 2}},
        {"totals": [1]},
        {"checksums": 7},
    ],
)
def test_what_is_no_manifest_is_refused(change: dict[str, object]) -> None:
    value = GenerationManifest("g", SPEC, Totals(), {}).to_json() | change
    with pytest.raises(LayoutError):
        GenerationManifest.from_json(value)


def test_a_default_vector_that_is_no_base64_is_refused() -> None:
    value = GenerationManifest("g", SPEC, Totals(), {}).to_json()
    value["spec"]["defaults"]["user"] = "*"
    with pytest.raises(LayoutError, match="does not fit"):
        GenerationManifest.from_json(value)


def test_strides_follow_the_element_type() -> None:
    assert (SPEC.vector_stride, SPEC.category_stride) == (10, 8)
    assert replace(SPEC, element_type="f16").vector_stride == 12
    assert replace(SPEC, element_type="f32").category_stride == 16


def test_the_layout_follows_the_counts() -> None:
    assert SPEC.layout.user_buckets == 1
    assert SPEC.layout.item_blocks == 1
    many = replace(SPEC, users=1_000_000, items=1_000_001, user_categories=0)
    assert many.layout.user_buckets == 1954  # of 512 users
    assert many.layout.item_blocks == -(-1_000_001 // many.block_items)
    # 192 elements of f16 and 40 pairs are about 16 KB a user: fewer of them to a bucket of 4 MB.
    large = replace(
        SPEC, element_type="f16", dim=192, category_dim=192, users=1000, user_categories=40_000
    )
    assert 3 <= large.layout.user_buckets <= 5
    none = replace(SPEC, users=0, items=0, user_categories=0)
    assert (none.layout.user_buckets, none.layout.item_blocks) == (1, 0)


@given(st.sampled_from(["f16", "f32", "int8"]), st.integers(1, 600))
def test_a_block_of_items_stays_under_a_size_class(element_type: ElementType, dim: int) -> None:
    spec = replace(SPEC, element_type=element_type, dim=dim)
    item_bytes = 17 + spec.vector_stride
    assert 750 < spec.block_items <= 1000
    used = spec.block_items * item_bytes
    step = 1 << ((1000 * item_bytes).bit_length() - 3)  # four sizes to an octave
    assert -used % step < 2 * item_bytes + 64


@given(st.lists(st.builds(Totals, *[st.integers(0, 99)] * 4, *[st.floats(0, 9)] * 3), max_size=5))
def test_totals_add_counts_and_keep_the_largest(parts: list[Totals]) -> None:
    total = Totals()
    for part in parts:
        total = total.plus(part)
    for name in ("users", "items", "user_categories", "size_bytes"):
        assert getattr(total, name) == sum(getattr(p, name) for p in parts)
    for name in ("largest_user", "largest_item", "largest_user_category"):
        assert getattr(total, name) == max((getattr(p, name) for p in parts), default=0.0)
