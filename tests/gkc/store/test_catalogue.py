"""The catalogue's rules: what each change does, and what no sequence of changes ever does."""

from __future__ import annotations

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gkc.errors import (
    CatalogueLostError,
    LeaseLostError,
    NoPreviousGenerationError,
    OldCatalogueError,
    RecordError,
    VersionLimitError,
    VersionNotFoundError,
)
from gkc.store import (
    Catalogue,
    GenerationManifest,
    GenerationSpec,
    Retention,
    Summary,
    Totals,
    VersionEntry,
)
from gkc.store import catalogue as rules

NOW = 1_000_000.0


def spec_of(version: str, fingerprint: str = "f", users: int = 10) -> GenerationSpec:
    return GenerationSpec(version, "f16", 4, 2, users, 20, 30, "bundle", fingerprint)


def begin(catalogue: Catalogue, version: str, token: str = "t") -> tuple[Catalogue, str]:
    return rules.begin(catalogue, spec_of(version), 99, token, "someone")


def publish(
    catalogue: Catalogue,
    version: str,
    *,
    max_versions: int = 5,
    keep_previous: int = 1,
    pin: bool = False,
) -> Catalogue:
    catalogue, generation = begin(catalogue, version)
    return finish(catalogue, version, generation, max_versions, keep_previous, pin=pin)[0]


def finish(
    catalogue: Catalogue,
    version: str,
    generation: str,
    max_versions: int = 5,
    keep_previous: int = 1,
    *,
    pin: bool = False,
    token: str = "t",
) -> tuple[Catalogue, list[str]]:
    spec = spec_of(version)
    manifest = GenerationManifest(generation, spec, spec.layout, Totals(10, 20, 30, 999))
    return rules.publish(
        catalogue,
        manifest,
        Retention(max_versions, keep_previous, pin=pin),
        token=token,
        published_at="2021-12-20T03:00:00Z",
        delete_after=NOW,
    )


def served(catalogue: Catalogue) -> list[str]:
    return [e.current for e in catalogue.versions.values()]


def test_a_first_publication() -> None:
    catalogue, generation = begin(Catalogue(), "v1")
    entry = catalogue.generations[generation]
    assert (entry.state, entry.token, entry.holder) == ("staging", "t", "someone")
    assert (entry.version, entry.fingerprint, entry.layout) == ("v1", "f", spec_of("v1").layout)
    assert dict(catalogue.versions) == {}
    catalogue, evicted = finish(catalogue, "v1", generation, max_versions=7)
    assert evicted == []
    assert dict(catalogue.versions) == {"v1": VersionEntry(generation)}
    entry = catalogue.generations[generation]
    assert (entry.state, entry.token, entry.holder, entry.sequence) == ("published", "", "", 1)
    assert entry.published_at == "2021-12-20T03:00:00Z"
    checksum = entry.summary.checksum if entry.summary else ""
    assert entry.summary == Summary(10, 20, 30, 4, 2, "f16", 999, "bundle", checksum)
    assert re.fullmatch("sha256:[0-9a-f]{64}", checksum)
    assert (catalogue.revision, catalogue.counter, catalogue.published) == (2, 1, 1)
    assert catalogue.max_versions == 7


def test_ids_of_generations_sort_by_when_they_were_begun() -> None:
    catalogue, ids = Catalogue(), []
    for _ in range(12):
        catalogue, generation = begin(catalogue, "v")
        ids.append(generation)
    assert ids == sorted(ids)
    assert len({g.partition("-")[2] for g in ids}) == 12
    assert list(catalogue.in_state("staging")) == ids


def test_the_earliest_published_version_is_evicted() -> None:
    catalogue = Catalogue()
    for version in ("c", "a", "b"):
        catalogue = publish(catalogue, version)
    assert catalogue.newest_first() == ["b", "a", "c"]
    catalogue = publish(catalogue, "c")  # published again: now the newest
    assert rules.plan_evictions(catalogue, "new", 3) == ["a"]
    assert rules.plan_evictions(catalogue, "new", 1) == ["a", "b", "c"]
    assert rules.plan_evictions(catalogue, "a", 3) == []
    assert rules.plan_evictions(catalogue, "a", 2) == ["b"]


def test_ties_are_evicted_in_order_of_their_names() -> None:
    catalogue = Catalogue()
    for version in ("b", "a"):
        catalogue = publish(catalogue, version)
    tied = {g: replace(e, sequence=1) for g, e in catalogue.generations.items()}
    assert rules.plan_evictions(replace(catalogue, generations=tied), "new", 2) == ["a"]


def test_rolling_back_decides_by_the_generation_that_is_served_then() -> None:
    catalogue = Catalogue()
    for version in ("a", "b", "a"):
        catalogue = publish(catalogue, version)
    assert rules.plan_evictions(catalogue, "new", 2) == ["b"]
    assert rules.plan_evictions(rules.rollback(catalogue, "a"), "new", 2) == ["a"]


def test_pinned_versions_are_never_evicted() -> None:
    catalogue = Catalogue()
    for version in ("a", "b", "c"):
        catalogue = publish(catalogue, version, pin=version != "b")
    assert rules.plan_evictions(catalogue, "new", 3) == ["b"]
    with pytest.raises(VersionLimitError) as caught:
        rules.plan_evictions(catalogue, "new", 2)
    assert caught.value.pinned == ("a", "c")
    with pytest.raises(VersionLimitError):
        rules.begin(catalogue, spec_of("new"), 2, "t", "h")
    catalogue = rules.set_pinned(catalogue, "a", pinned=False)
    assert rules.plan_evictions(catalogue, "new", 2) == ["a", "b"]
    with pytest.raises(VersionNotFoundError, match="c, b, a"):
        rules.set_pinned(catalogue, "d", pinned=True)


def test_a_pin_survives_publishing_again() -> None:
    catalogue = publish(publish(Catalogue(), "a", pin=True), "a")
    assert catalogue.version("a").pinned


def test_an_eviction_frees_current_and_previous() -> None:
    catalogue = Catalogue()
    for version in ("a", "a", "b"):
        catalogue = publish(catalogue, version, max_versions=2)
    old = catalogue.version("a")
    catalogue = publish(catalogue, "c", max_versions=2)
    assert set(catalogue.versions) == {"b", "c"}
    retired = catalogue.in_state("retired")
    assert set(retired) == {old.current, old.previous}
    assert {e.delete_after for e in retired.values()} == {NOW}


def test_previous_is_kept_once_or_not_at_all() -> None:
    one = publish(Catalogue(), "a")
    two = publish(one, "a")
    assert two.version("a").previous == one.version("a").current
    three = publish(two, "a")
    assert three.version("a").previous == two.version("a").current
    assert list(three.in_state("retired")) == [one.version("a").current]
    none = publish(three, "a", keep_previous=0)
    assert none.version("a").previous is None
    assert len(none.in_state("retired")) == 3


def test_rollback_swaps_and_swaps_back() -> None:
    catalogue = publish(publish(Catalogue(), "a"), "a")
    before = catalogue.version("a")
    back = rules.rollback(catalogue, "a")
    assert back.version("a") == VersionEntry(str(before.previous), before.current)
    assert rules.rollback(back, "a").version("a") == before
    with pytest.raises(NoPreviousGenerationError):
        rules.rollback(publish(Catalogue(), "a"), "a")
    with pytest.raises(VersionNotFoundError):
        rules.rollback(catalogue, "b")


def test_delete_retires_both_generations_of_a_version() -> None:
    catalogue = publish(publish(publish(Catalogue(), "a"), "a"), "b")
    after = rules.delete(catalogue, "a", NOW)
    assert list(after.versions) == ["b"]
    assert len(after.in_state("retired")) == 2
    assert after.revision == catalogue.revision + 1
    with pytest.raises(VersionNotFoundError, match="versions there: b"):
        rules.delete(after, "a", NOW)


def test_only_the_holder_of_the_token_publishes() -> None:
    catalogue, generation = begin(Catalogue(), "v")
    with pytest.raises(LeaseLostError):
        finish(catalogue, "v", generation, token="other")
    with pytest.raises(LeaseLostError):
        finish(rules.adopt(catalogue, generation, "u", "h"), "v", generation)
    with pytest.raises(LeaseLostError):
        finish(rules.abandon(catalogue, generation, NOW), "v", generation)
    with pytest.raises(LeaseLostError):
        finish(Catalogue(), "v", generation)
    published, _ = finish(catalogue, "v", generation)
    with pytest.raises(LeaseLostError):
        finish(published, "v", generation)


def test_only_what_is_staged_is_abandoned() -> None:
    catalogue, generation = begin(Catalogue(), "v")
    tomb = rules.abandon(catalogue, generation, NOW)
    entry = tomb.generations[generation]
    assert (entry.state, entry.token) == ("abandoned", "")
    assert entry.delete_after == NOW + rules.TOMBSTONE_SECONDS
    assert rules.abandon(tomb, generation, NOW) is tomb
    assert rules.abandon(tomb, "unknown", NOW) is tomb
    published, _ = finish(catalogue, "v", generation)
    assert rules.abandon(published, generation, NOW) is published


def test_what_is_published_is_not_forgotten() -> None:
    catalogue = publish(publish(Catalogue(), "a"), "b")
    catalogue = rules.delete(catalogue, "a", NOW)
    (retired,) = catalogue.in_state("retired")
    after = rules.forget(catalogue, [retired, *served(catalogue), "unknown"])
    assert set(after.generations) == set(served(catalogue))
    assert rules.forget(after, served(after)) is after


def test_only_an_export_of_the_same_is_resumed() -> None:
    catalogue, first = begin(Catalogue(), "v")
    catalogue, second = begin(catalogue, "v")
    assert rules.resumable(catalogue, spec_of("v")) == second
    assert rules.resumable(catalogue, spec_of("w")) is None
    assert rules.resumable(catalogue, spec_of("v", fingerprint="g")) is None
    assert rules.resumable(catalogue, spec_of("v", users=100_000)) is None
    catalogue = rules.abandon(catalogue, second, NOW)
    assert rules.resumable(catalogue, spec_of("v")) == first
    adopted = rules.adopt(catalogue, first, "new", "heir").generations[first]
    assert (adopted.token, adopted.holder, adopted.state) == ("new", "heir", "staging")


# ---- bytes


def framed(content: bytes) -> bytes:
    crc32 = zlib.crc32(content)
    return b'{"format":"gkc-catalogue/2","crc32":%d,"content":%b}' % (crc32, content)


def content_of(catalogue: Catalogue) -> bytes:
    raw = catalogue.to_bytes()
    return raw[raw.index(b'"content":') + len(b'"content":') : -1]


@pytest.mark.parametrize("raw", [b"", b"{]", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_catalogue_is_lost(raw: bytes) -> None:
    with pytest.raises(CatalogueLostError, match="of somewhere: it cannot be read"):
        rules.read_catalogue(raw, "somewhere")
    assert rules.read_catalogue(None, "somewhere") is None


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
    entry = rules.GenerationEntry("v1", "abandoned", spec_of("v1").layout)
    with pytest.raises(RecordError, match="no generation"):
        Catalogue.from_bytes(Catalogue(generations={"..": entry}).to_bytes())


def test_a_catalogue_of_format_1_says_what_to_do() -> None:
    raw = b'{"counter":1,"format":"gkc-catalogue/1","generations":{},"versions":{}}'
    with pytest.raises(OldCatalogueError) as caught:
        rules.read_catalogue(raw, "somewhere")
    for words in ("another GKC_NAMESPACE", "switch the service", "delete --old-format --yes"):
        assert words in str(caught.value)


# ---- what a reader makes of a catalogue that it reads after another one


def changed(catalogue: Catalogue, times: int) -> Catalogue:
    for _ in range(times):
        catalogue, _ = begin(catalogue, "v")
    return catalogue


few = st.integers(0, 2 * rules.HISTORY_LENGTH)


@given(few, few)
def test_what_became_of_a_catalogue_is_later_and_the_other_way_round_earlier(
    past: int, changes: int
) -> None:
    first = changed(Catalogue(), past)
    last = changed(first, changes)
    assert rules.succession(first, last) == "later"
    assert rules.succession(last, first) == ("earlier" if changes else "later")


@given(few, st.integers(1, rules.HISTORY_LENGTH), st.integers(1, rules.HISTORY_LENGTH))
def test_what_was_written_after_a_restoration_is_another(past: int, ours: int, theirs: int) -> None:
    backup = changed(Catalogue(), past)
    known, found = changed(backup, ours), changed(backup, theirs)
    assert rules.succession(known, found) == "other"
    assert rules.succession(known, Catalogue.from_bytes(found.to_bytes())) == "other"


@given(few, few)
def test_the_revision_decides_where_no_token_does(ours: int, theirs: int) -> None:
    known, found = changed(Catalogue(), ours), replace(changed(Catalogue(), theirs), history=())
    assert rules.succession(known, found) == ("earlier" if theirs < ours else "later")


@given(few)
def test_each_revision_has_a_token_and_the_last_ones_are_kept(changes: int) -> None:
    catalogue = changed(Catalogue(), changes)
    assert len(catalogue.history) == min(changes, rules.HISTORY_LENGTH)
    assert len(set(catalogue.history)) == len(catalogue.history)
    assert catalogue.token_at(catalogue.revision + 1) is None
    assert catalogue.token_at(catalogue.revision - rules.HISTORY_LENGTH) is None
    if changes:
        assert catalogue.token_at(catalogue.revision) == catalogue.history[-1]


# ---- any sequence of changes

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "publish",
                "begin",
                "finish",
                "pin",
                "unpin",
                "rollback",
                "delete",
                "abandon",
                "forget",
            ]
        ),
        st.sampled_from(["a", "b", "c", "d"]),
        st.integers(1, 3),
        st.integers(0, 1),
    ),
    max_size=30,
)


def change(
    catalogue: Catalogue, what: str, version: str, max_versions: int, keep_previous: int
) -> tuple[Catalogue, list[str]]:
    """Make one change, and return also what it evicted."""
    staged = [g for g, e in catalogue.in_state("staging").items() if e.version == version]
    if what == "begin":
        return begin(catalogue, version)[0], []
    if what == "finish" and staged:
        return finish(catalogue, version, staged[0], max_versions, keep_previous)
    if what == "publish":
        catalogue, generation = begin(catalogue, version)
        return finish(catalogue, version, generation, max_versions, keep_previous)
    if what in ("pin", "unpin"):
        return rules.set_pinned(catalogue, version, pinned=what == "pin"), []
    if what == "rollback":
        return rules.rollback(catalogue, version), []
    if what == "delete":
        return rules.delete(catalogue, version, NOW), []
    if what == "abandon" and staged:
        return rules.abandon(catalogue, staged[0], NOW), []
    return rules.forget(catalogue, list(catalogue.in_state("retired", "abandoned"))[:1]), []


@given(steps)
def test_no_sequence_of_changes_breaks_the_catalogue(
    sequence: list[tuple[str, str, int, int]],
) -> None:
    catalogue = Catalogue()
    for what, version, max_versions, keep_previous in sequence:
        before = catalogue
        try:
            catalogue, evicted = change(before, what, version, max_versions, keep_previous)
        except (VersionLimitError, VersionNotFoundError, NoPreviousGenerationError):
            continue
        assert Catalogue.from_bytes(catalogue.to_bytes()) == catalogue
        assert catalogue.revision >= before.revision
        assert (catalogue.revision == before.revision) == (catalogue == before)
        if what in ("publish", "finish") and catalogue.published > before.published:
            assert version not in evicted
            assert not any(before.versions[v].pinned for v in evicted)
            assert catalogue.newest_first()[0] == version
            assert len(catalogue.versions) <= max_versions
        named = {g for e in catalogue.versions.values() for g in (e.current, e.previous) if g}
        assert named == set(catalogue.in_state("published"))
        lost = set(before.generations) - set(catalogue.generations)
        assert all(before.generations[g].state in ("retired", "abandoned") for g in lost)
