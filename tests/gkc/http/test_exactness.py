"""Every path of every answer, bit by bit, against the contract read out slowly."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from gkc.answering.answering import Answering
from gkc.answering.store_watch import StoreWatch
from gkc.answering.user_cache import UserReader
from gkc.center.generation import LoadedGeneration
from gkc.center.question import RowsAnswer
from gkc.http.decoding import decode_json
from gkc.id_index import TableIndex
from gkc.store import open_reader
from gkc.store.ids import hash_strings
from tests.gkc.http.running import (
    JSON,
    SAFETENSORS,
    Session,
    Told,
    open_safetensors,
    read_json,
    read_safetensors,
    rows_of_factored,
    session,
)
from tests.gkc.slow_rows import NAMES
from tests.gkc.world import (
    CATEGORIES,
    ITEMS,
    PARTS,
    STRANGERS,
    STRINGS,
    USERS,
    Id,
    Worlds,
    make_world,
    named,
    versions_of,
)

EQUALLY_WIDE = ("half", "half-defaults", "full", "full-defaults", "int8", "int8-defaults")

MANY = settings(max_examples=150)

portions = st.sampled_from((1, 1 << 20))
part_lists = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4, unique=True)


def column(values: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[Any]:
    """One value for all rows, a list of one, or one a row."""
    return (
        values | st.lists(values, min_size=1, max_size=1) | st.lists(values, min_size=n, max_size=n)
    )


@st.composite
def questions(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[Id, Id, Id | None, str]]]:
    """Draw a columnar question, and its rows written out: of numbers, or some ids are strings."""
    n = draw(st.integers(0, 12))
    strings = draw(st.sampled_from(((), *STRINGS)))
    several = versions_of(strings) if strings else EQUALLY_WIDE
    versions = st.sampled_from(draw(st.sampled_from((several, several[:1]))))
    users, items, categories = (
        st.sampled_from([named(kind, id_, strings) for id_ in ids])
        for kind, ids in (
            ("user", (*USERS, *STRANGERS)),
            ("item", (*ITEMS, *STRANGERS)),
            ("category", (*CATEGORIES, 77, 78)),
        )
    )
    body = {
        "u": draw(column(users, n)),
        "i": draw(st.lists(items, min_size=n, max_size=n)),
        "c": draw(column(st.none() | categories, n)),
        "v": draw(column(versions, n)),
    }
    if draw(st.booleans()):
        del body["c"]
    columns = [body.get(name) for name in "uic"] + [body["v"]]
    wide = [c * n if isinstance(c, list) and len(c) == 1 else c for c in columns]
    rows = [tuple(c[k] if isinstance(c, list) else c for c in wide) for k in range(n)]
    return body, rows  # type: ignore[return-value]


def expected(
    worlds: Worlds,
    rows: list[tuple[Id, Id, Id | None, str]],
    parts: list[str],
    dtype: str,
) -> tuple[list[bytes], list[list[int]]]:
    """Return the bytes of each row and the statuses, one row at a time."""
    kind = np.float16 if dtype == "f16" else np.float32
    told = [worlds[v].row(u, i, c, parts) for u, i, c, v in rows]
    return [np.array(row, dtype=kind).tobytes() for row, _ in told], [s for _, s in told]


def assert_told(
    told: Told, worlds: Worlds, rows: list[Any], parts: list[str], dtype: str = "f32"
) -> None:
    knowledge, status = expected(worlds, rows, parts, dtype)
    assert [row.tobytes() for row in told.knowledge] == knowledge
    assert told.status == status
    named = [part for part in PARTS if part in parts]
    assert list(told.parts) == (named if told.versions else [])  # no version, no widths
    for version, generation in told.versions.items():
        assert generation == worlds[version].generation


@contextmanager
def records_at_once(size_bytes: int) -> Iterator[None]:
    """Have a question answered portion by portion; a byte is one user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gkc.center.plan._PORTION_BYTES", size_bytes)
        yield


def as_safetensors(body: dict[str, Any], **options: Any) -> bytes:
    """Write a columnar question as safetensors."""
    given = body.get("c")
    listed = given if isinstance(given, list) else [given]
    tensors = tensors_of("u", body["u"]) | tensors_of("i", body["i"])
    if any(c is not None for c in listed):
        strings = any(isinstance(c, str) for c in listed)
        tensors |= tensors_of("c", [("" if strings else 0) if c is None else c for c in listed])
        if None in listed:
            tensors["c_given"] = np.array([c is not None for c in listed], dtype=np.uint8)
    elif len(listed) != 1:  # so many rows, without a category
        tensors["c"] = np.zeros(len(listed), dtype=np.int64)
        tensors["c_given"] = np.zeros(len(listed), dtype=np.uint8)
    v = body["v"]
    metadata = {"v": v if isinstance(v, str) else json.dumps(v)}
    metadata |= {k: o if isinstance(o, str) else json.dumps(o) for k, o in options.items()}
    return safetensors.numpy.save(tensors, metadata)


def tensors_of(name: str, value: Any) -> dict[str, Any]:
    """Write a column as tensors."""
    listed = value if isinstance(value, list) else [value]
    if not any(isinstance(id_, str) for id_ in listed):
        return {name: np.array(listed, dtype=np.int64)}
    raw = [id_.encode() for id_ in listed]
    return {
        name: np.frombuffer(b"".join(raw), dtype=np.uint8),
        f"{name}_offsets": np.cumsum([0, *map(len, raw)], dtype=np.int64),
    }


@MANY
@given(
    question=questions(), parts=part_lists, dtype=st.sampled_from(("f32", "f16")), portion=portions
)
def test_columns_answer_as_the_contract_says(
    asked: Session, worlds: Worlds, question: Any, parts: list[str], dtype: str, portion: int
) -> None:
    body, rows = question
    body = body | {"parts": parts, "dtype": dtype}
    with records_at_once(portion):
        told = read_json(asked.post(body), dtype)
    assert_told(told, worlds, rows, parts, dtype)
    assert set(told.versions) == ({body["v"]} if isinstance(body["v"], str) else set(body["v"]))
    same = read_safetensors(asked.post(body, headers={"accept": SAFETENSORS}))
    assert same.knowledge.tobytes() == told.knowledge.tobytes()
    assert same.status == told.status
    assert (same.versions, same.parts) == (told.versions, told.parts)


@MANY
@given(question=questions(), parts=part_lists, leave_out=st.booleans())
def test_quadruples_answer_as_columns_do(
    asked: Session, worlds: Worlds, question: Any, parts: list[str], leave_out: bool
) -> None:
    _, rows = question
    quadruples = [
        {"u": u, "i": i, "v": v} | ({} if c is None and leave_out else {"c": c})
        for u, i, c, v in rows
    ]
    response = asked.post({"quadruples": quadruples, "parts": parts})
    if not rows:
        empty: dict[str, Any] = {"versions": {}, "parts": {}, "knowledge": [], "status": []}
        assert response.json() == empty
        return
    assert_told(read_json(response), worlds, rows, parts)


@MANY
@given(question=questions(), parts=part_lists, portion=portions)
def test_safetensors_in_and_factored_out_give_the_same_bits(
    asked: Session, worlds: Worlds, question: Any, parts: list[str], portion: int
) -> None:
    body, rows = question
    raw = as_safetensors(body, parts=parts, layout="factored")
    with records_at_once(portion):
        response = post_safetensors(asked, raw)
    if len({version for *_, version in rows}) > 1:
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["/layout"]
        return
    told = rows_of_factored(response, parts)
    assert_told(told, worlds, rows, parts)
    rows_answer = post_safetensors(asked, as_safetensors(body, parts=parts))
    assert read_safetensors(rows_answer).knowledge.tobytes() == told.knowledge.tobytes()
    in_json = post_safetensors(asked, as_safetensors(body, parts=parts), accept=JSON)
    assert read_json(in_json).knowledge.tobytes() == told.knowledge.tobytes()
    assert_compact(response, worlds, rows, parts)


def post_safetensors(asked: Session, raw: bytes, accept: str = SAFETENSORS) -> httpx.Response:
    return asked.post(content=raw, headers={"content-type": SAFETENSORS, "accept": accept})


def assert_compact(
    response: httpx.Response, worlds: Worlds, rows: list[Any], parts: list[str]
) -> None:
    """Check that vectors are distinct, in order of first appearance, in stored precision."""
    tensors, metadata = open_safetensors(response)
    named = json.loads(metadata["versions"])
    kind = np.float16 if all(worlds[v].element_type == "f16" for v in named) else np.float32
    assert {t.dtype for t in tensors.values() if t.dtype.kind == "f"} <= {np.dtype(kind)}
    wanted = {"status"}
    if {"user", "user_item"} & set(parts):
        wanted |= {"user", "user_index"}
        distinct = list(dict.fromkeys((u, v) for u, _, _, v in rows))
        assert tensors["user"].shape[0] == len(distinct)
        assert tensors["user_index"].dtype == np.int32
        assert tensors["user_index"].tolist() == [distinct.index((u, v)) for u, _, _, v in rows]
    if {"item", "user_item"} & set(parts):
        wanted |= {"item"}
    if "user_category" in parts:
        wanted |= {"user_category", "user_category_index"}
        pairs = [(u, worlds[v].category_of(i) if c is None else c, v) for u, i, c, v in rows]
        distinct_pairs = list(dict.fromkeys(pairs))
        assert tensors["user_category"].shape[0] == len(distinct_pairs)
        index = tensors["user_category_index"].tolist()
        assert index == [distinct_pairs.index(pair) for pair in pairs]
    assert set(tensors) == wanted


def test_zeros_of_absent_parts_are_positive(asked: Session, worlds: Worlds) -> None:
    negative = next(i for i, k in worlds["full"].items.items() if min(k) < 0)
    told = read_json(asked.post({"u": STRANGERS[0], "i": negative, "v": "full"}))
    assert told.status == [[0, 1, 0, 0]]
    start, end = told.parts["user_item"]
    assert told.knowledge[0, start:end].tobytes() == bytes(4 * 4)


def test_negative_zeros_survive(asked: Session, worlds: Worlds) -> None:
    world = worlds["full"]
    user = next(u for u, k in world.users.items() if any(x == 0 and np.signbit(x) for x in k))
    told = read_json(asked.post({"u": user, "i": ITEMS[0], "v": "full", "parts": ["user"]}))
    assert told.knowledge[0].tobytes() == np.array(world.users[user], np.float32).tobytes()


@pytest.mark.parametrize(
    ("version", "parts", "status"),
    [
        ("large", ["user_item"], 422),  # 300 * 300 overflows
        ("large", ["user", "item", "user_category"], 200),
        ("larger", ["user"], 422),  # stored as f32, too large for f16 by itself
        ("larger", ["user_category"], 422),
        ("half", list(PARTS), 200),
    ],
)
def test_f16_that_could_overflow_is_refused(
    asked: Session, version: str, parts: list[str], status: int
) -> None:
    body = {"u": USERS[0], "i": list(ITEMS), "v": version, "parts": parts, "dtype": "f16"}
    response = asked.post(body)
    assert response.status_code == status
    if status == 422:
        (error,) = response.json()["errors"]
        assert error["field"] == "/dtype"
        assert version in error["detail"]
        assert read_json(asked.post(body | {"dtype": "f32"})).knowledge.dtype == np.float32


def test_a_product_beyond_f32_is_refused_not_null(asked: Session) -> None:
    body = {"u": USERS[0], "i": ITEMS[0], "v": "largest"}
    assert asked.post(body).status_code == 422
    told = read_json(asked.post(body | {"parts": ["user", "item"]}))
    assert (told.knowledge == np.float32(1e30)).all()


def test_versions_of_unequal_widths_are_named(asked: Session) -> None:
    response = asked.post({"u": 7, "i": [11, 12], "v": ["half", "wide"]})
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == "/v"
    assert "half" in error["detail"]
    assert "wide" in error["detail"]


ALL = "user_item_category"
SNOW = "\N{SNOWMAN}"


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({"u": 7, "i": ["a"], "v": ALL}, "/u", f"is a number, but users of version '{ALL}' are s"),
        ({"u": "a", "i": ["b", 1], "v": ALL}, "/i/1", "is a number, but /i/0 is a string, and"),
        ({"u": "a", "i": [1], "v": ALL}, "/i/0", "a number, but items"),
        ({"u": "a", "i": "b", "c": [None, 3], "v": ALL}, "/c/1", "a number, but categories"),
        ({"u": "a", "i": "b", "c": [None, "c", 3], "v": ALL}, "/c/2", "a number, but /c/1 is a st"),
        ({"u": "7", "i": 1, "v": "half"}, "/u", "a string, but users of version 'half' are int"),
        ({"u": 7, "i": [1, "1"], "v": "half"}, "/i/1", "is a string, but /i/0 is a number, and"),
        ({"u": 7, "i": ["1", "1"], "v": "half"}, "/i/0", "is a string, but items"),
        ({"u": 7, "i": 1, "c": "3", "v": "half"}, "/c", "is a string, but categories"),
        ({"u": 7, "i": 1, "c": [3, None, "3"], "v": "half"}, "/c/2", "is a string, but /c/0"),
        ({"u": "a", "i": "b", "v": "user"}, "/i", "is a string, but items"),
        ({"u": "a", "i": 1, "c": SNOW, "v": "user"}, "/c", "is a string, but categories"),
        (
            {"u": 7, "i": 11, "v": ["half", "user"]},
            "/v",
            "types of ids .*half: int64, int64, int64",
        ),
        (
            {"quadruples": [{"u": 7, "i": 1, "v": "half"}, {"u": "7", "i": 1, "v": "half"}]},
            "/quadruples/1/u",
            "is a string, but /quadruples/0/u is a number",
        ),
    ],
)
def test_ids_of_another_type_are_refused_and_the_first_named(
    asked: Session, body: dict[str, Any], field: str, detail: str
) -> None:
    response = asked.post(body)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["field"] == field
    assert re.search(detail, error["detail"])
    listed = [column if isinstance(column, list) else [column] for column in body.values()]
    if "quadruples" not in body and all(len(set(map(type, column))) == 1 for column in listed):
        told = post_safetensors(asked, as_safetensors(body)).json()["errors"]
        is_one_id = field in ("/u", "/i", "/c")
        of_a_list = f"{field}/0" if is_one_id else field  # every tensor is one
        assert told == [{"field": of_a_list, "detail": error["detail"]}]


def test_strings_of_one_key_are_told_apart(tmp_path: Path) -> None:
    twins = [NAMES[k].decode() for k in (2, 3, 4)]
    made = make_world("twins", 3, "f32", strings=("user", "item"))
    vectors = list(made.users.values())
    world = replace(
        made,
        users=dict(zip(twins[:2], vectors, strict=False)),
        items=dict(zip(twins[1:], vectors[2:], strict=False)),
        item_categories={twins[1]: 3},
        pairs={(twins[0], 3): vectors[0][:3], (twins[1], 3): vectors[1][:3]},
    )
    assert len(set(hash_strings([NAMES[k] for k in (2, 3, 4)]).tolist())) == 1
    world = world.publish(f"file:{tmp_path}")
    worlds = Worlds(f"file:{tmp_path}", [world])
    rows = [(user, item, None, "twins") for user in twins for item in twins]
    with session(worlds.url) as asked:
        body = {"u": [u for u, *_ in rows], "i": [i for _, i, *_ in rows], "v": "twins"}
        assert_told(read_json(asked.post(body)), worlds, rows, list(PARTS))
        raw = as_safetensors(body, layout="factored")
        response = post_safetensors(asked, raw)
        assert_told(rows_of_factored(response, PARTS), worlds, rows, list(PARTS))
        assert_compact(response, worlds, rows, list(PARTS))


def test_zero_rows_of_a_version_of_strings(asked: Session, worlds: Worlds) -> None:
    for body in ({"u": "a", "i": [], "v": ALL}, {"u": [], "i": [], "c": [], "v": ALL}):
        told = read_json(asked.post(body))
        assert told.versions == {ALL: worlds[ALL].generation}
        assert told.knowledge.shape == (0, 15)
        in_tensors = read_safetensors(post_safetensors(asked, as_safetensors(body)))
        assert in_tensors.knowledge.shape == (0, 15)


def test_zero_rows_of_a_version_have_its_widths(asked: Session, worlds: Worlds) -> None:
    told = read_json(asked.post({"u": 7, "i": [], "v": "wide"}))
    assert told.versions == {"wide": worlds["wide"].generation}
    assert told.parts["user_category"] == [15, 18]
    assert told.knowledge.shape == (0, 18)
    in_safetensors = read_safetensors(
        asked.post({"u": 7, "i": [], "v": "wide"}, headers={"accept": SAFETENSORS})
    )
    assert in_safetensors.knowledge.shape == (0, 18)
    assert asked.post({"u": 7, "i": [], "v": "nowhere"}).status_code == 404


def test_zero_rows_of_no_version(asked: Session) -> None:
    body: dict[str, Any] = {"quadruples": []}
    told = read_safetensors(asked.post(body, headers={"accept": SAFETENSORS}))
    assert told.knowledge.shape == (0, 0)
    response = asked.post(body | {"layout": "factored"}, headers={"accept": SAFETENSORS})
    assert open_safetensors(response)[0]["user"].shape == (0, 0)


class Pausing:
    """Reads users as a store at the end of a wire does: the answer comes when the gate opens."""

    def __init__(self, reader: UserReader) -> None:
        self._reader = reader
        self.gate = asyncio.Event()

    async def fetch_users(self, manifest: Any, ids: Any) -> Any:
        await self.gate.wait()
        return await self._reader.fetch_users(manifest, ids)


class Watched:
    """An index of items that counts how often it was asked."""

    def __init__(self, index: TableIndex) -> None:
        self._index = index
        self.asked = 0

    def find(self, ids: int, n: int, places: int) -> None:
        self.asked += 1
        self._index.find(ids, n, places)


class Loaded:
    """In the place of `Serving`: one generation, loaded."""

    def __init__(self, loaded: LoadedGeneration) -> None:
        self._loaded = loaded
        self.watch = StoreWatch("file:anywhere", 0.0)

    async def resolve(self, versions: Any) -> dict[str, LoadedGeneration]:
        return dict.fromkeys(versions, self._loaded)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_items_are_looked_up_while_the_store_reads_if_requests_come_one_at_a_time(
    worlds: Worlds,
) -> None:
    reader = open_reader(worlds.url)
    manifest = await reader.manifest(worlds["half"].generation)
    loaded = LoadedGeneration.of(manifest, await reader.item_table(manifest, 1 << 20))
    index: Any = Watched(loaded.rows.index)
    loaded.rows.index = index
    pausing = Pausing(reader)
    serving: Any = Loaded(loaded)
    answering = Answering(serving, pausing)
    told, status = expected(
        worlds, [(USERS[0], item, None, "half") for item in ITEMS], list(PARTS), "f32"
    )
    body = {"u": USERS[0], "i": list(ITEMS), "v": "half"}
    request = decode_json(json.dumps(body).encode(), len(ITEMS))

    async def looked_up_early(at_once: int) -> int:
        """Ask so many at once; tell how many looked items up before the store answered."""
        index.asked = 0
        pausing.gate.clear()
        asked = [asyncio.create_task(answering.answer(request)) for _ in range(at_once)]
        await settle()
        early: int = index.asked
        pausing.gate.set()
        for answer in await asyncio.gather(*asked):
            assert isinstance(answer, RowsAnswer)
            assert [row.tobytes() for row in answer.knowledge] == told
            assert answer.status.tolist() == status
        assert index.asked == early  # the others' were found as their rows were laid
        return early

    # The first of a lull may have others right behind it; the second in a row has not.
    found = [await looked_up_early(at_once) for at_once in (1, 1, 1, 3, 1, 1)]
    assert found == [0, 1, 1, 1, 0, 1]
    loaded.items.close()
    await reader.close()


@pytest.mark.parametrize(("rows", "turns"), [(1_000, 0), (1_001, 1), (4_001, 2), (8_001, 3)])
async def test_others_get_a_turn_between_the_steps_of_very_many_rows(
    worlds: Worlds, rows: int, turns: int
) -> None:
    reader = open_reader(worlds.url)
    manifest = await reader.manifest(worlds["half"].generation)
    loaded = LoadedGeneration.of(manifest, await reader.item_table(manifest, 1 << 20))
    body = {"u": USERS[0], "i": [ITEMS[k % len(ITEMS)] for k in range(rows)], "v": "half"}
    request = decode_json(json.dumps(body).encode(), rows)
    taken = 0

    async def count() -> None:
        nonlocal taken
        while True:
            await asyncio.sleep(0)
            taken += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    serving: Any = Loaded(loaded)
    answering = Answering(serving, reader)
    answer = await answering.answer(request)
    assert taken >= turns
    await answering.answer(request)  # items first: requests come one at a time
    assert taken >= 2 * turns
    assert bool(taken) == bool(turns)
    counting.cancel()
    assert isinstance(answer, RowsAnswer)
    told, status = expected(
        worlds, [(USERS[0], item, None, "half") for item in ITEMS], list(PARTS), "f32"
    )
    assert [row.tobytes() for row in answer.knowledge[: len(ITEMS)]] == told
    assert answer.status[: len(ITEMS)].tolist() == status
    loaded.items.close()
    await reader.close()
