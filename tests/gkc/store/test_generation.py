"""What a generation is made of: names, counts, and the manifest's way to JSON and back."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gkc.errors import GenerationCorruptError, LayoutError, RecordError
from gkc.store import (
    Defaults,
    ElementType,
    GenerationManifest,
    GenerationSpec,
    Origin,
    Totals,
    is_version_name,
)
from gkc.store.chunks import Chunks
from gkc.store.generation import CHUNK_BYTES, read_manifest
from gkc.store.table_format import PAGE_BYTES

SPEC = GenerationSpec("v1", "int8", 6, 4, 100, 200, 300, "bundle", "fingerprint")
MANIFEST = GenerationManifest("g", SPEC, SPEC.layout, Totals(100, 200, 300))

vectors = st.none() | st.binary(min_size=10, max_size=10)
pair_vectors = st.none() | st.binary(min_size=8, max_size=8)
manifests = st.builds(
    GenerationManifest,
    generation=st.just("0000000001-ab"),
    spec=st.builds(
        replace,
        st.just(SPEC),
        bundle=st.text(max_size=9),
        defaults=st.builds(
            Defaults, vectors, vectors, pair_vectors, st.none() | st.integers(-(2**63), 2**63 - 1)
        ),
        origin=st.builds(
            Origin,
            compatible_with=st.lists(st.dictionaries(st.text(max_size=3), st.text()), max_size=2),
            vector_space=st.none() | st.text(max_size=3),
            run=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        ),
    ),
    layout=st.just(SPEC.layout),
    totals=st.builds(
        Totals,
        st.just(100),
        st.just(200),
        st.just(300),
        st.integers(0, 10**12),
        *[st.floats(0, 2.0**127, width=32)] * 3,
    ),
    checksums=st.dictionaries(st.text(max_size=5), st.integers(0, 2**32 - 1), max_size=3),
    chunk_crc32s=st.just(b"") | st.binary(min_size=4, max_size=4),
)


@pytest.mark.parametrize("name", ["20211220", "a", "A.b_c-9", "x" * 64, ".", ".."])
def test_names_of_versions(name: str) -> None:
    assert is_version_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "a b", "é", "a\n", "a:b", "a{b}"])
def test_other_names_are_none(name: str) -> None:
    assert not is_version_name(name)


@given(manifests)
def test_a_manifest_survives_its_bytes(manifest: GenerationManifest) -> None:
    raw = manifest.to_bytes()
    assert GenerationManifest.from_bytes(raw, manifest.generation) == manifest
    assert GenerationManifest.from_bytes(raw, manifest.generation).to_bytes() == raw


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"dim":6', b'"dim":-1', "dim"),
        (b'"dim":6', b'"dim":6.5', "dim"),
        (b'"element_type":"int8"', b'"element_type":"f64"', r"\$\.spec\.element_type"),
        (b'"user":null', b'"user":"*"', r"\$\.spec\.defaults\.user"),
        (b'"user":null', b'"user":"AAAA"', r"\$\.spec\.defaults\.user: has 3 bytes, not 10"),
        (b'"user_category":null', b'"user_category":""', r"defaults\.user_category: has 0 bytes"),
        (b'"totals":{"users":100', b'"totals":{"users":101', r"\$\.totals\.users"),
        (b'"totals":{', b'"totals":{"unknown":1,', "unknown"),
        (b'"users":100', b'"users":4294967296', "users"),
        (b'"category_dim":4', b'"category_dim":0', "but there are pairs"),
        (b'"checksums":{}', b'"checksums":7', r"\$\.checksums"),
        (b'"largest_user":0.0', b'"largest_user":-1.0', r"\$\.totals"),
        (b'"chunk_crc32s":""', b'"chunk_crc32s":"AAAAAAA="', "chunk_crc32s: are not those of 1"),
        (b'"user_id_type":"int64"', b'"user_id_type":"uuid"', r"\$\.spec\.user_id_type"),
        (b'"generation":"g"', b'"generation":"h"', r"\$\.generation"),
    ],
)
def test_a_sealed_manifest_that_does_not_fit_names_the_field(
    old: bytes, new: bytes, field: str
) -> None:
    raw = MANIFEST.to_bytes()
    content = raw[raw.index(b'"content":') + len(b'"content":') : -1]
    assert old in content
    changed = content.replace(old, new)
    with pytest.raises(RecordError, match=field):
        GenerationManifest.from_bytes(
            b'{"format":"gkc-generation/2","crc32":%d,"content":%b}'
            % (zlib.crc32(changed), changed),
            "g",
        )


def test_chunks_that_do_not_make_the_table_are_refused() -> None:
    layout = replace(SPEC.layout, item_chunks=2)
    wrong = replace(MANIFEST, layout=layout, chunk_crc32s=bytes(8))
    with pytest.raises(RecordError, match=r"\$\.layout\.item_chunks: is 2, not 1"):
        GenerationManifest.from_bytes(wrong.to_bytes(), "g")
    with pytest.raises(GenerationCorruptError, match="no chunks"):
        Chunks(MANIFEST)


@pytest.mark.parametrize("raw", [b"", b"x", b'{"content":{"format":"gkc-generation/1"},"crc32":1}'])
def test_what_is_no_manifest_is_damage(raw: bytes) -> None:
    with pytest.raises(GenerationCorruptError, match="its manifest: "):
        read_manifest(raw, "g")


def test_strides_follow_the_element_type() -> None:
    assert (SPEC.vector_stride, SPEC.category_stride) == (10, 8)
    assert replace(SPEC, element_type="f16").vector_stride == 12
    assert replace(SPEC, element_type="f32").category_stride == 16


def test_the_layout_follows_the_counts() -> None:
    assert SPEC.layout.user_buckets == 1
    assert SPEC.layout.item_chunks == 1
    many = replace(SPEC, users=1_000_000, items=1_000_001, user_categories=0)
    assert many.layout.user_buckets == 1954  # of 512 users
    size_bytes = many.item_shape.size_bytes()
    assert size_bytes > 1_000_001 * (17 + many.vector_stride)
    assert many.layout.item_chunks == -(-size_bytes // CHUNK_BYTES)
    # 192 elements of f16 and 40 pairs are about 16 KB a user: fewer of them to a bucket of 4 MB.
    large = replace(
        SPEC, element_type="f16", dim=192, category_dim=192, users=1000, user_categories=40_000
    )
    assert 3 <= large.layout.user_buckets <= 5
    none = replace(SPEC, users=0, items=0, user_categories=0)
    assert (none.layout.user_buckets, none.layout.item_chunks) == (1, 1)
    assert none.payload_bytes == 0
    with pytest.raises(LayoutError, match="4294967296 items are too many"):
        _ = replace(SPEC, items=2**32).layout


@given(st.sampled_from(["f16", "f32", "int8"]), st.integers(1, 600), st.integers(0, 10**6))
def test_chunks_make_the_table(element_type: ElementType, dim: int, items: int) -> None:
    spec = replace(SPEC, element_type=element_type, dim=dim, items=items)
    layout = spec.layout
    chunks = Chunks(
        replace(MANIFEST, spec=spec, chunk_crc32s=bytes(4 * layout.item_chunks), layout=layout)
    )
    sizes = [chunks.size(number) for number in range(chunks.count)]
    assert sum(sizes) == spec.item_shape.size_bytes() >= PAGE_BYTES
    assert set(sizes[:-1]) <= {CHUNK_BYTES}
    parts = list(chunks.parts(0, chunks.size_bytes))
    assert parts == [(number, 0, size) for number, size in enumerate(sizes)]


@given(st.lists(st.builds(Totals, *[st.integers(0, 99)] * 4, *[st.floats(0, 9)] * 3), max_size=5))
def test_totals_add_counts_and_keep_the_largest(parts: list[Totals]) -> None:
    total = Totals()
    for part in parts:
        total = total.plus(part)
    for name in ("users", "items", "user_categories", "size_bytes"):
        assert getattr(total, name) == sum(getattr(p, name) for p in parts)
    for name in ("largest_user", "largest_item", "largest_user_category"):
        assert getattr(total, name) == max((getattr(p, name) for p in parts), default=0.0)
