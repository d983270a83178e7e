"""Files joined: every column, every bit, every order kept; what is there is gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gkc.errors import (
    CommandError,
    GenerationNotFoundError,
    GkcError,
    TableFileError,
    VersionNotFoundError,
)
from gkc.knowledge import PARTS
from gkc.offline import joiner
from gkc.offline.folders import FilePair
from gkc.offline.form import KnowledgeForm
from gkc.offline.join import Join, JoinReport
from gkc.offline.joiner import JoinOptions
from gkc.offline.parquet import lock, schema_metadata
from gkc.offline.snapshot import StoreAddress
from gkc.store import ElementType, open_publisher
from tests.gkc.offline.tables import EQUALLY_WIDE, draw, expected, read, told, worlds_of, write
from tests.gkc.world import STRINGS, Worlds, make_world, versions_of

Options = Callable[..., JoinOptions]


@pytest.fixture
def options(worlds: Worlds, tmp_path: Path) -> Options:
    def make(**given: Any) -> JoinOptions:
        asked = JoinOptions(
            source=tmp_path / "in",
            target=tmp_path / "out",
            store=StoreAddress(worlds.url),
            version="half",
            version_column=None,
            form=KnowledgeForm("f16"),
        )
        return replace(asked, **given)

    return make


def run(options: JoinOptions) -> JoinReport:
    steps: list[int] = []
    join = Join(options)
    report = join.run(steps.append)
    assert sum(steps) == join.steps
    return report


def refusal(options: JoinOptions) -> str:
    """Return why a join does not begin; nothing is written."""
    before = sorted(options.target.parent.rglob("*"))
    with pytest.raises(GkcError) as refused:
        Join(options)
    assert sorted(options.target.parent.rglob("*")) == before
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_a_file(worlds: Worlds, options: Options) -> None:
    asked, table = options(), draw(1000)
    write(table, asked.source)
    report = run(asked)
    found = read(asked.target)
    assert found.select(table.schema.names).equals(table)
    assert found.schema.names[-2:] == ["knowledge", "status"]
    assert found.schema.field("knowledge").type.value_type == pa.float16()
    rows, status = expected(table, [worlds["half"]], "f16")
    assert told(found) == (rows, status)
    assert (report.files, report.rows, report.kept) == (1, 1000, 0)
    assert report.generations == {"half": worlds["half"].generation}
    assert report.counts[0].tolist() == [sum(s[0] == k for s in status) for k in range(3)]
    for metadata in (found.schema.metadata, pq.read_metadata(asked.target).metadata):
        assert json.loads(metadata[b"gkc.versions"]) == {"half": worlds["half"].generation}
        assert json.loads(metadata[b"gkc.vector_spaces"]) == {}
        assert list(json.loads(metadata[b"gkc.parts"])) == list(PARTS)


@pytest.mark.parametrize("strings", STRINGS)
def test_a_file_of_strings(worlds: Worlds, options: Options, strings: tuple[str, ...]) -> None:
    versions = versions_of(strings)
    asked, table = options(version=None, version_column="version"), draw(300, 0, versions, strings)
    write(table, asked.source)
    run(asked)
    assert told(read(asked.target)) == expected(table, worlds_of(table, worlds), "f16")


def test_files_say_where_parts_are(worlds: Worlds, options: Options) -> None:
    asked, table = options(form=KnowledgeForm("f16", ("user", "user_category"))), draw(50)
    write(table, asked.source)
    run(asked)
    found = read(asked.target)
    start, end = json.loads(found.schema.metadata[b"gkc.parts"])["user_category"]
    rows, _ = expected(table, [worlds["half"]], "f16", ("user_category",))
    numbers = np.array(found["knowledge"].to_pylist(), dtype="<f2")
    assert [row.tobytes() for row in numbers[:, start:end]] == rows


def test_row_groups_of_any_size(
    worlds: Worlds, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joiner, "_MOST_GROUP_ROWS", 64)
    monkeypatch.setattr(joiner, "_LEAST_GROUP_ROWS", 1)
    asked, table = options(form=KnowledgeForm(prefix="k_")), draw(1000)
    write(table, asked.source, group=150)
    run(asked)
    assert told(read(asked.target), "k_") == expected(table, [worlds["half"]])
    assert pq.read_metadata(asked.target).num_row_groups >= 15


def test_all_that_columns_may_be(options: Options) -> None:
    table = draw(100)
    rng = np.random.default_rng(0)
    texts = pa.array([None if x < 0.1 else f"t{x:.1f}" for x in rng.random(100)])
    more = {
        "dictionary": texts.dictionary_encode(),
        "large": texts.cast(pa.large_string()),
        "time": pa.array(rng.integers(0, 10**15, 100), pa.timestamp("us", "UTC")),
        "bytes": texts.cast(pa.binary()),
        "struct": pa.array([{"a": k, "b": [str(k)] * (k % 3)} for k in range(100)]),
        "decimal": pa.array(range(100), pa.decimal128(20, 3)),
        "flag": pa.array(rng.random(100) < 0.5),
        "nothing": pa.nulls(100),
        "embedding": pa.array(rng.random((100, 3)).tolist(), pa.list_(pa.float32(), 3)),
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    fields = [pa.field(f.name, f.type, f.nullable, {"told": "x"}) for f in table.schema]
    table = table.cast(pa.schema(fields, metadata={"pandas": '{"columns": []}'}))
    asked = options()
    write(table, asked.source)
    run(asked)
    found = read(asked.target).select(table.schema.names)
    assert found.equals(table)
    for field in table.schema:
        assert found.schema.field(field.name).metadata[b"told"] == b"x"
    assert found.schema.metadata[b"pandas"] == b'{"columns": []}'


def test_a_folder_keeps_its_files(worlds: Worlds, options: Options) -> None:
    asked = options(version=None, version_column="version")
    tables = {
        "day=1/a.parquet": draw(300, 1, EQUALLY_WIDE[:2]),
        "day=1/b": draw(0, 2, EQUALLY_WIDE[:1]),
        "day=2/a.parquet": draw(200, 3, EQUALLY_WIDE[2:]),
    }
    for name, table in tables.items():
        write(table, asked.source / name)
    (asked.source / "_SUCCESS").touch()
    report = run(asked)
    assert (report.files, report.rows) == (3, 500)
    assert set(report.generations) == set(EQUALLY_WIDE)
    files = [path for path in sorted(asked.target.rglob("*")) if path.is_file()]
    assert files == [asked.target / name for name in tables]
    for name, table in tables.items():
        found = read(asked.target / name)
        assert told(found) == expected(table, worlds_of(table, worlds), "f16")
        named = json.loads(found.schema.metadata[b"gkc.versions"])
        assert named == {v: worlds[v].generation for v in set(table["version"].to_pylist())}


@pytest.mark.usefixtures("one_core")
def test_what_is_finished_is_kept(options: Options) -> None:
    asked = options()
    for name in "abc":
        write(draw(50), asked.source / name)
    run(asked)
    (asked.target / "b").unlink()
    FilePair(asked.source / "b", asked.target / "b").temporary.touch()  # killed while it wrote
    before = (asked.target / "a").stat().st_mtime_ns
    report = run(asked)
    assert (report.files, report.rows, report.kept) == (1, 50, 2)
    assert sorted(path.name for path in asked.target.iterdir()) == ["a", "b", "c"]
    assert (asked.target / "a").stat().st_mtime_ns == before
    report = run(replace(asked, restart=True))
    assert (report.files, report.kept) == (3, 0)
    assert (asked.target / "a").stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"form": KnowledgeForm("f32")}, "dtype f16, now f32"),
        (
            {"form": KnowledgeForm("f16", ("user", "item"))},
            "parts user,item,user_item,user_category, now user,item",
        ),
        (
            {"form": KnowledgeForm("f32", prefix="k_")},
            "dtype f16, now f32; prefix none, now k_",
        ),
        ({"version": "full"}, "version half, now full"),
    ],
)
def test_other_options_want_a_restart(
    options: Options, other: dict[str, Any], differs: str
) -> None:
    asked = options()
    write(draw(50), asked.source)
    run(asked)
    before = schema_metadata(asked.target)
    said = refusal(replace(asked, **other))
    assert f"was joined otherwise: {differs}; --restart joins everything anew" in said
    assert schema_metadata(asked.target) == before
    run(replace(asked, restart=True, **other))
    assert schema_metadata(asked.target) != before


@pytest.mark.usefixtures("one_core")
def test_another_input_wants_a_restart(options: Options) -> None:
    asked = options()
    for name in "ab":
        write(draw(50), asked.source / name)
    run(asked)
    (asked.source / "a").unlink()
    assert f"{asked.target / 'a'}: was joined from a file that is no longer" in refusal(asked)
    write(draw(51), asked.source / "a")
    said = refusal(asked)
    assert f"{asked.target / 'a'}: was joined otherwise: the input's rows 50, now 51; " in said
    assert "; the input's time differs; --restart" in said
    (asked.source / "a").unlink()
    report = run(replace(asked, restart=True))
    assert (report.files, [path.name for path in asked.target.iterdir()]) == (1, ["b"])


def test_another_generation_wants_a_restart(options: Options, url: str) -> None:
    first = make_world("v1", 1).publish(url)
    asked = options(store=StoreAddress(url), version="v1")
    write(draw(50), asked.source)
    run(asked)
    second = make_world("v1", 2).publish(url)
    said = refusal(asked)
    assert (
        f"was joined from {first.generation} of version 'v1', which is {second.generation}" in said
    )
    run(replace(asked, restart=True))
    assert told(read(asked.target)) == expected(draw(50), [second], "f16")


def test_one_moment_answers_for_all_files(options: Options, url: str) -> None:
    first = make_world("v1", 1).publish(url)
    asked = options(store=StoreAddress(url), version="v1")
    write(draw(50), asked.source)
    join = Join(asked)
    make_world("v1", 2).publish(url)
    join.run(lambda _: None)
    assert told(read(asked.target)) == expected(draw(50), [first], "f16")


def test_a_generation_that_goes_away(options: Options, url: str) -> None:
    make_world("v1", 1).publish(url)
    asked = options(store=StoreAddress(url), version="v1")
    write(draw(50), asked.source)
    join = Join(asked)
    publisher = open_publisher(url)
    publisher.delete("v1", grace_seconds=0)
    publisher.delete_retired(wait=True)
    publisher.close()
    with pytest.raises(GenerationNotFoundError):
        join.run(lambda _: None)
    assert [*asked.target.parent.glob("*out*")] == []


def test_what_is_in_the_way(options: Options) -> None:
    asked = options()
    write(draw(5), asked.source)
    asked.target.write_text("notes")
    for restart in (False, True):
        said = refusal(replace(asked, restart=restart))
        assert said == f"{asked.target}: is there, and no join wrote it; name another place"
    asked.target.unlink()
    asked.source.unlink()
    write(draw(5), asked.source / "a")
    write(draw(5), asked.target / "a")
    assert f"{asked.target / 'a'}: is there, and no join wrote it" in refusal(asked)
    (asked.target / "a").unlink()
    run(asked)


def test_another_join_that_writes(options: Options) -> None:
    asked = options()
    write(draw(5), asked.source)
    fd = lock(FilePair(asked.source, asked.target).temporary)
    assert fd is not None
    with pytest.raises(TableFileError, match="is being written by another process"):
        run(asked)


def test_versions_are_checked_before_anything_is_written(options: Options) -> None:
    asked = options(version=None, version_column="version")
    write(draw(500, versions=("half",)), asked.source / "a")
    later = draw(500, versions=("half",)).to_pylist()
    later[321]["version"] = "none"
    write(pa.Table.from_pylist(later), asked.source / "b")
    said = refusal(asked)
    assert (
        f"{asked.source / 'b'}, column 'version', row 321 (counted from 0): version 'none'" in said
    )
    assert "is not in the store; versions there: " in said
    write(draw(500, versions=("wide",)), asked.source / "b")
    assert "the table names versions of unequal widths" in refusal(asked)
    write(draw(0, versions=("half",)), asked.source / "a")
    write(draw(0, versions=("half",)), asked.source / "b")
    assert "has no rows, so none names a version" in refusal(asked)


def test_schemas_are_checked_before_anything_is_written(options: Options) -> None:
    asked = options()
    write(draw(5), asked.source / "a")
    write(draw(5).drop_columns(["item_id"]), asked.source / "b")
    assert f"{asked.source / 'b'}: there is no column 'item_id'" in refusal(asked)
    write(draw(5).rename_columns(["status", *draw(1).schema.names[1:]]), asked.source / "b")
    assert f"{asked.source / 'b'}, column 'status': is there already" in refusal(asked)
    write(draw(5, strings=("user",)), asked.source / "b")
    said = refusal(asked)
    assert f"{asked.source / 'b'}, column 'user_id': holds string, but version 'half' has" in said
    write(draw(5, versions=("user",), strings=("user",)), asked.source / "b")
    write(draw(5, versions=("half",)), asked.source / "a")
    said = refusal(replace(asked, version=None, version_column="version"))
    assert "names versions of unequal types of ids" in said
    (asked.source / "b").write_text("text")
    assert f"{asked.source / 'b'}: is no readable Parquet file" in refusal(asked)


def test_categories_that_are_all_null_are_of_any_type(worlds: Worlds, options: Options) -> None:
    version = versions_of(("category",))[0]
    asked = options(version=version)
    write(draw(50), asked.source)
    assert "column 'category_id': holds int64, but version" in refusal(asked)
    table = draw(50).drop_columns(["category_id"])
    table = table.append_column("category_id", pa.nulls(50, pa.int64()))
    write(table, asked.source)
    run(asked)
    assert told(read(asked.target)) == expected(table, [worlds[version]], "f16")


def test_a_pipe_is_not_waited_for(options: Options) -> None:
    asked = options()
    os.mkfifo(asked.source)
    assert refusal(asked) == f"{asked.source}: is no regular file"
    asked.source.unlink()
    write(draw(5), asked.source)
    os.mkfifo(asked.target)
    assert refusal(asked) == f"{asked.target}: is no regular file"
    asked.target.unlink()
    os.mkfifo(FilePair(asked.source, asked.target).temporary)  # as if a killed join had left it
    run(asked)


def test_options_that_do_not_fit(options: Options) -> None:
    write(draw(5), options().source)
    assert "versions there:" in refusal(options(version="none"))
    assert "type f16 may overflow" in refusal(options(version="large"))
    assert "for a store behind a network" in refusal(options(reads_per_second=5))


def test_a_row_without_a_user(options: Options) -> None:
    asked = options()
    rows = draw(400).to_pylist()
    rows[377]["user_id"] = None
    write(pa.Table.from_pylist(rows), asked.source)
    with pytest.raises(TableFileError, match=r"/in, column 'user_id', row 377 \(counted from 0\)"):
        run(asked)
    assert [*asked.target.parent.glob("*out*")] == []


def test_a_row_without_a_user_among_many_files(options: Options) -> None:
    asked = options()
    for name in "abcd":
        write(draw(400), asked.source / name)
    rows = draw(400).to_pylist()
    rows[377]["item_id"] = None
    write(pa.Table.from_pylist(rows), asked.source / "c")
    with pytest.raises(CommandError, match="/in/c, column 'item_id', row 377"):
        run(asked)
    assert not (asked.target / "c").exists()
    assert [*asked.target.rglob(".*")] == []


def test_an_input_that_is_replaced_before_it_is_joined(options: Options, tmp_path: Path) -> None:
    asked = options()
    write(draw(100), asked.source)
    join = Join(asked)
    write(draw(100, 1), tmp_path / "new").replace(asked.source)
    with pytest.raises(TableFileError, match="/in: was changed while it was read; run it again"):
        join.run(lambda _: None)
    assert not asked.target.exists()
    run(asked)


@pytest.mark.redis
def test_an_input_that_is_replaced_between_its_two_readings(
    options: Options, redis_server_url: str, redis_namespace: str, tmp_path: Path
) -> None:
    make_world("v1").publish(redis_server_url, redis_namespace)
    store = StoreAddress(redis_server_url, redis_namespace, tmp_path / "mirrors", 5000)
    asked = options(version="v1", store=store)
    write(draw(100), asked.source)
    new = write(draw(100, 1), tmp_path / "new")

    def replace_once(_: int) -> None:
        if new.exists():
            new.replace(asked.source)

    with pytest.raises(TableFileError, match="/in: was changed while it was read"):
        Join(asked).run(replace_once)
    assert sorted(tmp_path.glob("*out*")) == []


@pytest.mark.redis
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("strings", [(), STRINGS[-1]])
def test_from_redis(
    options: Options,
    redis_server_url: str,
    redis_namespace: str,
    tmp_path: Path,
    strings: tuple[str, ...],
) -> None:
    kinds: dict[str, ElementType] = {"v1": "f16", "v2": "int8"}
    made = {
        name: make_world(name, 1, kind, defaults=name == "v2", strings=strings).publish(
            redis_server_url, redis_namespace
        )
        for name, kind in kinds.items()
    }
    store = StoreAddress(redis_server_url, redis_namespace, tmp_path / "mirrors", 5000)
    asked = options(store=store, version=None, version_column="version", reads_per_second=10_000)
    tables = {name: draw(500, seed, tuple(made), strings) for seed, name in enumerate("ab")}
    for name, table in tables.items():
        write(table, asked.source / name)
    run(asked)
    for name, table in tables.items():
        worlds = [made[v] for v in table["version"].to_pylist()]
        assert told(read(asked.target / name)) == expected(table, worlds, "f16")
    with pytest.raises(VersionNotFoundError):
        Join(replace(asked, version="v3", version_column=None))
