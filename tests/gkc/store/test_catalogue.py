"""The catalogue: what is read of its bytes, and how two of them relate."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gkc.errors import CatalogueLostError, OldCatalogueError, RecordError
from gkc.store import Catalogue, GenerationEntry
from gkc.store.catalogue import read_catalogue, succession
from gkc.store.changes import HISTORY_LENGTH
from tests.gkc.store.catalogues import begin, publish, spec_of


def framed(content: bytes) -> bytes:
    crc32 = zlib.crc32(content)
    return b'{"format":"gkc-catalogue/2","crc32":%d,"content":%b}' % (crc32, content)


def content_of(catalogue: Catalogue) -> bytes:
    raw = catalogue.to_bytes()
    return raw[raw.index(b'"content":') + len(b'"content":') : -1]


@pytest.mark.parametrize("raw", [b"", b"{]", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_catalogue_is_lost(raw: bytes) -> None:
    with pytest.raises(CatalogueLostError, match="of somewhere: it cannot be read"):
        read_catalogue(raw, "somewhere")
    assert read_catalogue(None, "somewhere") is None


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"current":"', b'"current":"other', r"\$\.versions\.v1\.current"),
        (b'"previous":null', b'"previous":"0000000009-ab"', r"\$\.versions\.v1\.previous"),
        (b'"state":"published"', b'"state":"retired"', r"\$\.versions\.v1\.current"),
        (b'"state":"published"', b'"state":"odd"', "state"),
        (b'"version":"v1"', b'"version":"v2"', r"\$\.versions\.v1\.current"),
        (b'"version":"v1"', b'"version":"../v"', "version"),
        (b'"user_buckets":1', b'"user_buckets":0', "user_buckets"),
        (b'"revision":2', b'"revision":"2"', "revision"),
        (b'"pinned":false', b'"pinned":0', "pinned"),
        (b'"bundle":"bundle"', b'"bundle":"bundle","more":1', "more"),
        (b'_at":"2021-12-20T', b'_at":"2021-13-20T', "published_at: '2021-13-20T.*' is no time"),
        (b'"generations":{"', b'"generations":{"../', r".+"),
    ],
)
def test_a_sealed_catalogue_that_does_not_fit_names_the_field(
    old: bytes, new: bytes, field: str
) -> None:
    content = content_of(publish(Catalogue(), "v1"))
    assert old in content
    with pytest.raises(RecordError, match=field):
        Catalogue.from_bytes(framed(content.replace(old, new)))


def test_a_published_generation_has_a_summary() -> None:
    catalogue = publish(Catalogue(), "v1")
    bare = {g: replace(e, summary=None) for g, e in catalogue.generations.items()}
    with pytest.raises(RecordError, match="summary"):
        Catalogue.from_bytes(replace(catalogue, generations=bare).to_bytes())


def test_a_generation_is_never_a_directory_s_name() -> None:
    entry = GenerationEntry("v1", "abandoned", spec_of("v1").layout)
    with pytest.raises(RecordError, match="no generation"):
        Catalogue.from_bytes(Catalogue(generations={"..": entry}).to_bytes())


def test_a_catalogue_of_format_1_says_what_to_do() -> None:
    raw = b'{"counter":1,"format":"gkc-catalogue/1","generations":{},"versions":{}}'
    with pytest.raises(OldCatalogueError) as caught:
        read_catalogue(raw, "somewhere")
    for words in ("another GKC_NAMESPACE", "switch the service", "delete --old-format --yes"):
        assert words in str(caught.value)


# ---- what a reader makes of a catalogue that it reads after another one


def changed(catalogue: Catalogue, times: int) -> Catalogue:
    for _ in range(times):
        catalogue, _ = begin(catalogue, "v")
    return catalogue


few = st.integers(0, 2 * HISTORY_LENGTH)


@given(few, few)
def test_what_became_of_a_catalogue_is_later_and_the_other_way_round_earlier(
    past: int, changes: int
) -> None:
    first = changed(Catalogue(), past)
    last = changed(first, changes)
    assert succession(first, last) == "later"
    assert succession(last, first) == ("earlier" if changes else "later")


@given(few, st.integers(1, HISTORY_LENGTH), st.integers(1, HISTORY_LENGTH))
def test_what_was_written_after_a_restoration_is_another(past: int, ours: int, theirs: int) -> None:
    backup = changed(Catalogue(), past)
    known, found = changed(backup, ours), changed(backup, theirs)
    assert succession(known, found) == "other"
    assert succession(known, Catalogue.from_bytes(found.to_bytes())) == "other"


@given(few, few)
def test_the_revision_decides_where_no_token_does(ours: int, theirs: int) -> None:
    known, found = changed(Catalogue(), ours), replace(changed(Catalogue(), theirs), history=())
    assert succession(known, found) == ("earlier" if theirs < ours else "later")


@given(few)
def test_each_revision_has_a_token_and_the_last_ones_are_kept(changes: int) -> None:
    catalogue = changed(Catalogue(), changes)
    assert len(catalogue.history) == min(changes, HISTORY_LENGTH)
    assert len(set(catalogue.history)) == len(catalogue.history)
    assert catalogue.token_at(catalogue.revision + 1) is None
    assert catalogue.token_at(catalogue.revision - HISTORY_LENGTH) is None
    if changes:
        assert catalogue.token_at(catalogue.revision) == catalogue.history[-1]
