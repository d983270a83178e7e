"""The rules: what each change does, and what no sequence of changes ever does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gkc.errors import (
    LeaseLostError,
    NoPreviousGenerationError,
    VersionLimitError,
    VersionNotFoundError,
)
from gkc.store import Catalogue, Summary, VersionEntry, changes
from tests.gkc.store.catalogues import NOW, begin, finish, publish, served, spec_of


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
    assert changes.plan_evictions(catalogue, "new", 3) == ["a"]
    assert changes.plan_evictions(catalogue, "new", 1) == ["a", "b", "c"]
    assert changes.plan_evictions(catalogue, "a", 3) == []
    assert changes.plan_evictions(catalogue, "a", 2) == ["b"]


def test_ties_are_evicted_in_order_of_their_names() -> None:
    catalogue = Catalogue()
    for version in ("b", "a"):
        catalogue = publish(catalogue, version)
    tied = {g: replace(e, sequence=1) for g, e in catalogue.generations.items()}
    assert changes.plan_evictions(replace(catalogue, generations=tied), "new", 2) == ["a"]


def test_rolling_back_decides_by_the_generation_that_is_served_then() -> None:
    catalogue = Catalogue()
    for version in ("a", "b", "a"):
        catalogue = publish(catalogue, version)
    assert changes.plan_evictions(catalogue, "new", 2) == ["b"]
    assert changes.plan_evictions(changes.rollback(catalogue, "a"), "new", 2) == ["a"]


def test_pinned_versions_are_never_evicted() -> None:
    catalogue = Catalogue()
    for version in ("a", "b", "c"):
        catalogue = publish(catalogue, version, pin=version != "b")
    assert changes.plan_evictions(catalogue, "new", 3) == ["b"]
    with pytest.raises(VersionLimitError) as caught:
        changes.plan_evictions(catalogue, "new", 2)
    assert caught.value.pinned == ("a", "c")
    with pytest.raises(VersionLimitError):
        changes.begin(catalogue, spec_of("new"), 2, "t", "h")
    catalogue = changes.set_pinned(catalogue, "a", pinned=False)
    assert changes.plan_evictions(catalogue, "new", 2) == ["a", "b"]
    with pytest.raises(VersionNotFoundError, match="c, b, a"):
        changes.set_pinned(catalogue, "d", pinned=True)


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
    assert {(e.delete_after, e.grace_seconds) for e in retired.values()} == {(NOW + 10, 10)}


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
    back = changes.rollback(catalogue, "a")
    assert back.version("a") == VersionEntry(str(before.previous), before.current)
    assert changes.rollback(back, "a").version("a") == before
    with pytest.raises(NoPreviousGenerationError):
        changes.rollback(publish(Catalogue(), "a"), "a")
    with pytest.raises(VersionNotFoundError):
        changes.rollback(catalogue, "b")


def test_delete_retires_both_generations_of_a_version() -> None:
    catalogue = publish(publish(publish(Catalogue(), "a"), "a"), "b")
    after = changes.delete(catalogue, "a", NOW, 600.0)
    assert list(after.versions) == ["b"]
    assert len(after.in_state("retired")) == 2
    assert after.revision == catalogue.revision + 1
    with pytest.raises(VersionNotFoundError, match="versions there: b"):
        changes.delete(after, "a", NOW, 600.0)


def test_only_the_holder_of_the_token_publishes() -> None:
    catalogue, generation = begin(Catalogue(), "v")
    with pytest.raises(LeaseLostError):
        finish(catalogue, "v", generation, token="other")
    with pytest.raises(LeaseLostError):
        finish(changes.adopt(catalogue, generation, "u", "h"), "v", generation)
    with pytest.raises(LeaseLostError):
        finish(changes.abandon(catalogue, generation, NOW), "v", generation)
    with pytest.raises(LeaseLostError):
        finish(Catalogue(), "v", generation)
    published, _ = finish(catalogue, "v", generation)
    with pytest.raises(LeaseLostError):
        finish(published, "v", generation)


def test_only_what_is_staged_is_abandoned() -> None:
    catalogue, generation = begin(Catalogue(), "v")
    tomb = changes.abandon(catalogue, generation, NOW)
    entry = tomb.generations[generation]
    assert (entry.state, entry.token) == ("abandoned", "")
    assert entry.delete_after == NOW + changes.TOMBSTONE_SECONDS
    assert changes.abandon(tomb, generation, NOW) is tomb
    assert changes.abandon(tomb, "unknown", NOW) is tomb
    published, _ = finish(catalogue, "v", generation)
    assert changes.abandon(published, generation, NOW) is published


def test_what_is_published_is_not_forgotten() -> None:
    catalogue = publish(publish(Catalogue(), "a"), "b")
    catalogue = changes.delete(catalogue, "a", NOW, 600.0)
    (retired,) = catalogue.in_state("retired")
    after = changes.forget(catalogue, [retired, *served(catalogue), "unknown"])
    assert set(after.generations) == set(served(catalogue))
    assert changes.forget(after, served(after)) is after


def test_only_an_export_of_the_same_is_resumed() -> None:
    catalogue, first = begin(Catalogue(), "v")
    catalogue, second = begin(catalogue, "v")
    assert changes.resumable(catalogue, spec_of("v")) == second
    assert changes.resumable(catalogue, spec_of("w")) is None
    assert changes.resumable(catalogue, spec_of("v", fingerprint="g")) is None
    assert changes.resumable(catalogue, spec_of("v", users=100_000)) is None
    catalogue = changes.abandon(catalogue, second, NOW)
    assert changes.resumable(catalogue, spec_of("v")) == first
    adopted = changes.adopt(catalogue, first, "new", "heir").generations[first]
    assert (adopted.token, adopted.holder, adopted.state) == ("new", "heir", "staging")


# ---- bytes


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
        return changes.set_pinned(catalogue, version, pinned=what == "pin"), []
    if what == "rollback":
        return changes.rollback(catalogue, version), []
    if what == "delete":
        return changes.delete(catalogue, version, NOW, 600.0), []
    if what == "abandon" and staged:
        return changes.abandon(catalogue, staged[0], NOW), []
    return changes.forget(catalogue, list(catalogue.in_state("retired", "abandoned"))[:1]), []


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
