"""A question answered portion by portion is the same answer, and few records are held at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Plan, VersionPlan
from gkc.center.question import Columns, Layout, Question
from gkc.store import Origin, open_reader
from tests.gkc.world import ITEMS, STRANGERS, USERS, make_world


async def test_portions_have_all_users_in_order_and_count_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file:{tmp_path}"
    worlds = [make_world(version, seed).publish(url) for seed, version in enumerate(("v1", "v2"))]
    reader = open_reader(url)
    generations = {}
    for world in worlds:
        manifest = await reader.manifest(world.generation)
        items = await reader.item_table(manifest, 0)
        generations[world.version] = LoadedGeneration.of(manifest, items)

    async def read(version: VersionPlan) -> list[bytes | memoryview | None]:
        return list(await reader.fetch_users(version.manifest, version.users))

    rng = np.random.default_rng(0)
    users, given = rng.choice((*USERS, *STRANGERS), 60), rng.choice(ITEMS, 60)
    columns = Columns(60, users, given, None, None, ("v1", "v2"), rng.integers(0, 2, 60))
    question = Question(columns)
    whole = Plan(question, generations)
    assert not whole.is_large
    expected = whole.finish([await read(version) for version in whole.versions])

    record_bytes = generations["v1"].manifest.spec.mean_record_bytes
    monkeypatch.setattr("gkc.center.plan._PORTION_BYTES", 3 * record_bytes)
    cut = Plan(question, generations)
    assert cut.is_large
    asked: dict[str, list[int]] = {"v1": [], "v2": []}
    for portion, lay in cut.portions():
        assert len(portion.users) <= 3
        asked[portion.name] += map(int, portion.users.tolist())
        portion.take(await read(portion))
        list(lay())
    assert asked == {version.name: version.users.tolist() for version in whole.versions}
    assert cut.answer.status.tobytes() == expected.status.tobytes()
    for version, counts in expected.counts.items():
        assert cut.answer.counts[version].tolist() == counts.tolist()
    assert cut.answer.versions == expected.versions
    await reader.close()


@pytest.mark.parametrize("layout", ["rows", "factored"])
async def test_an_answer_tells_the_tasks_of_the_versions_that_have_some(
    layout: Layout, tmp_path: Path
) -> None:
    url = f"file:{tmp_path}"
    world = make_world("v1").publish(url)
    reader = open_reader(url)
    manifest = await reader.manifest(world.generation)
    items = await reader.item_table(manifest, 0)
    origin = Origin(tasks=[{"name": "click", "dim": 4}])
    with_tasks = replace(manifest, spec=replace(manifest.spec, origin=origin))
    columns = Columns(
        1, np.array(USERS[:1]), np.array(ITEMS[:1]), None, None, ("v1",), np.zeros(1, np.int64)
    )
    told = []
    for described in (manifest, with_tasks):
        plan = Plan(Question(columns, layout=layout), {"v1": LoadedGeneration.of(described, items)})
        [version] = plan.versions
        records = list(await reader.fetch_users(manifest, version.users))
        told.append(plan.finish([records]).tasks)
    assert told == [{}, {"v1": '[{"name":"click","dim":4}]'}]
    await reader.close()
