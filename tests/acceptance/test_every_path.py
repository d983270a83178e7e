"""100,000 random rows on every path: one set of bits and statuses, those of the reference."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from gkc.errors import GkcError
from tests.acceptance.batches import (
    ID_TYPES,
    INTEGERS,
    STRINGS,
    TOTAL_ROWS,
    Answer,
    Batch,
    IdType,
    batches,
    check,
    expected,
)
from tests.acceptance.paths import (
    JSON,
    SAFETENSORS,
    Center,
    binary_question,
    center,
    get_words,
    json_question,
    read_factored,
    read_json,
    read_rows,
    table,
)
from tests.commands import Place
from tests.in_process import command, done

Asked = list[tuple[Batch, Answer]]
ASKED_BY_GET = 25
PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()


@pytest.fixture(scope="module")
def drawn() -> list[Batch]:
    """Return the batches, which hold what the reference answers once it was asked."""
    return batches()


def test_what_may_hide_a_difference_is_among_what_is_asked(drawn: list[Batch]) -> None:
    assert sum(batch.n for batch in drawn) == TOTAL_ROWS
    knowledge, statuses, _ = zip(*(batch.laid for batch in drawn), strict=True)
    status = np.concatenate(statuses)
    assert [set(column) for column in status.T.tolist()] == [{0, 1, 2}] * 4
    for dtype in (np.float16, np.float32):
        numbers = np.concatenate([rows.ravel() for rows in knowledge if rows.dtype == dtype])
        assert np.isfinite(numbers).all()
        assert np.signbit(numbers[numbers == 0]).any()
        assert (np.abs(numbers[numbers != 0]) < np.finfo(dtype).smallest_normal).any()


def test_every_path_gives_the_bits_of_the_reference(
    drawn: list[Batch], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GKC_MIRROR_DIR", str(tmp_path / "mirrors"))
    with center(place, tmp_path) as served:
        generations = served.generations()
        for ids in ID_TYPES:
            made = replace(served, ids=ids)
            asked = [(batch, expected(batch, ids, generations)) for batch in drawn]
            _check_http(made, asked)
            _check_clients(made, asked)
            _check_join(made, asked)
            _check_get(made, asked)
            _check_what_all_refuse(made)
            _check_what_one_cannot_ask(made)
        _check_what_ids_are_refused(served)
        _check_what_mixtures_are_refused(served)


def _check_http(made: Center, asked: Asked) -> None:
    for k, (batch, want) in enumerate(asked):
        in_json = json_question(batch, made.ids, by_row=k % 3 == 0)
        told = read_json(_answered(made, in_json, JSON), batch.dtype)
        check(told, want, ("JSON", batch))

        binary = binary_question(batch, made.ids)
        check(read_rows(_answered(made, binary, SAFETENSORS)), want, ("safetensors", batch))

        if len(want.versions) == 1:
            factored = binary_question(batch, made.ids, layout="factored")
            told = read_factored(_answered(made, factored, SAFETENSORS), batch.dtype)
            check(told, want, ("factored", batch))


def _answered(made: Center, question: tuple[bytes, str], accept: str) -> bytes:
    status, content = made.post(question, accept)
    assert status == 200, content
    return content


def _check_clients(made: Center, asked: Asked) -> None:
    for name, client in made.clients.items():
        for batch, want in asked:
            k = client.knowledge(**batch.columns(made.ids), **batch.options())
            told = Answer(k.rows, k.status, dict(k.parts), dict(k.versions))
            check(told, want, (name, batch))


def _check_join(made: Center, asked: Asked) -> None:
    """Join the rows of all batches, those that are answered alike in one table."""
    alike: dict[Any, Asked] = defaultdict(list)
    for batch, want in asked:
        width = want.knowledge.shape[1]
        alike[batch.parts, batch.dtype, width, batch.c is None].append((batch, want))
    for k, ((parts, dtype, *_), group) in enumerate(alike.items()):
        names = (made.ids.version(f"{name}-{k}.parquet") for name in ("rows", "joined"))
        source, target = (made.folder / name for name in names)
        pq.write_table(table([batch for batch, _ in group], made.ids), source)
        form = ["--dtype", dtype, *([] if parts is None else ["--parts", ",".join(parts)])]
        done("gkc", "join", "--version-column", "v", *form, source, target, place=made.place)
        _check_joined(pq.read_table(target), group)


def _check_joined(joined: pa.Table, asked: Asked) -> None:
    generations = json.loads(joined.schema.metadata[b"gkc.versions"])
    assert generations.keys() == {version for _, want in asked for version in want.versions}
    knowledge, status, first = _lists(joined["knowledge"]), _lists(joined["status"]), 0
    for batch, want in asked:
        rows = slice(first, first := first + batch.n)
        versions = {version: generations[version] for version in want.versions}
        # A table has one column of all parts; where each lies, the other paths tell.
        told = Answer(knowledge[rows], status[rows], want.spans, versions)
        check(told, want, ("join", batch))
    assert first == len(joined)


def _lists(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), -1)


def _check_get(made: Center, asked: Asked) -> None:
    """Ask rows out of batches that ask for whole rows in float32, for ``gkc get`` asks no less."""
    rows = [
        (Batch(1, u, [i], c, v, None, "f32"), want.knowledge[k : k + 1], want.status[k : k + 1])
        for batch, want in asked
        if batch.parts is None and batch.dtype == "f32"
        for k, (u, i, c, v) in enumerate(batch.rows())
    ]
    chosen = rows[:: len(rows) // ASKED_BY_GET][:ASKED_BY_GET]
    generations = made.generations()
    for batch, knowledge, status in chosen:
        want = expected(batch, made.ids, generations)
        assert (want.knowledge.tobytes(), want.status.tobytes()) == (
            knowledge.tobytes(),
            status.tobytes(),
        )
        told = done(*get_words(batch, made.ids), place=made.place)
        check(read_json(told, "f32"), want, ("gkc get", batch))


def _check_what_all_refuse(made: Center) -> None:
    """Ask what has no answer: every path says the same of it."""
    all_f32, of_all, nowhere = map(made.ids.version, ("all-f32", "all-", "nowhere"))
    for v, dtype, says in (
        ("all-f32", "f16", f"f16 may overflow: user_item of version '{all_f32}' goes up to 4.29"),
        (["all-int8", "aligned-f16"], "f32", f"versions of unequal widths (D and D_c: {of_all}"),
        ("nowhere", "f32", f"version '{nowhere}' is not in the store; versions there: "),
    ):
        batch = Batch(2, 1, [1, 2], None, v, None, dtype)
        told = dict(_refusals(made, batch))
        if v == "nowhere":
            told["gkc get"] = _failed(made, *get_words(batch, made.ids))
        assert [path for path, answer in told.items() if says not in answer] == [], told


def _check_what_ids_are_refused(made: Center) -> None:
    """Ask versions for ids that they do not have: every path says the same, a join by column."""
    integers, strings = (ids.version("some-f32") for ids in ID_TYPES)
    unequal = "names versions of unequal types of ids (user, item, category: "
    cases: tuple[tuple[IdType, str | list[str], str], ...] = (
        (STRINGS, integers, f"is a string, but users of version '{integers}' are integers"),
        (INTEGERS, strings, f"is a number, but users of version '{strings}' are strings"),
        (INTEGERS, [integers, strings], unequal),
        (STRINGS, [integers, strings], unequal),
    )
    for ids, v, says in cases:
        asking = replace(made, ids=replace(ids, prefix=""))
        told = dict(_refusals(asking, Batch(2, 1, [1, 2], None, v, None, "f32")))
        if isinstance(v, str):
            assert "column 'user_id': holds " in told.pop("gkc join")
        assert [path for path, answer in told.items() if says not in answer] == [], told


def _check_what_mixtures_are_refused(made: Center) -> None:
    """Ask for numbers among strings: all that can hold both say the same, of any version."""
    for ids, name in itertools.product(ID_TYPES, "uic"):
        version = ids.version("some-f32")
        for mixed, says in (
            (["7", 8], "is a number, but {0}/0 is a string"),
            ([8, "7"], "is a string, but {0}/0 is a number"),
        ):
            asked = {"u": ids.id_of(1), "i": ids.id_of(1), "v": version, name: mixed}
            told = {"JSON": _refused(made, (json.dumps(asked).encode(), JSON))}
            for kind, client in made.clients.items():
                with pytest.raises(GkcError) as refused:
                    client.knowledge(**asked)
                told[kind] = refused.value.detail
            says = f"/{name}/1 {says.format(f'/{name}')}, and ids of one kind are all of one type"
            assert set(told.values()) == {says}, told


def _refusals(made: Center, batch: Batch) -> Iterator[tuple[str, str]]:
    """Yield what each path says of a question that it refuses."""
    for by_row in (False, True):
        yield f"JSON, {by_row}", _refused(made, json_question(batch, made.ids, by_row=by_row))
    yield "safetensors", _refused(made, binary_question(batch, made.ids), SAFETENSORS)
    for name, client in made.clients.items():
        with pytest.raises(GkcError) as refused:
            client.knowledge(**batch.columns(made.ids), **batch.options())
        yield name, refused.value.detail
    of_rows = table([batch], made.ids)
    yield "gkc join", _failed_join(made, of_rows, "--version-column", "v", "--dtype", batch.dtype)


def _refused(made: Center, question: tuple[bytes, str], accept: str = JSON) -> str:
    status, content = made.post(question, accept)
    assert status in (404, 422), content
    return str(json.loads(content)["detail"])


def _failed(made: Center, *words: object) -> str:
    result = command(*words, place=made.place)
    assert result.returncode in (1, 2), result
    return result.stderr


def _failed_join(made: Center, rows: pa.Table, *words: str) -> str:
    source, target = made.folder / "refused.parquet", made.folder / "none.parquet"
    pq.write_table(rows, source)
    told = _failed(made, "gkc", "join", *words, source, target)
    assert not target.exists()
    return told


def _check_what_one_cannot_ask(made: Center) -> None:
    """Ask what a path cannot ask: docs/http.md lists all of it, and what is said."""
    (listed,) = re.findall(
        r"^\| by \| cannot ask \| says \|\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE
    )
    rows = [line.strip("| ").split(" | ") for line in listed.splitlines()]
    said = dict(_said(made))
    assert [(by, question) for by, question, _ in rows] == list(said)
    for by, question, says in rows:
        assert says.strip("`") in said[by, question], (by, question)


def _said(made: Center) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what paths say of questions that they cannot ask, by their lines in docs/http.md."""
    ids = made.ids
    batch = Batch(2, 1, [1, 2], None, "some-f16", None, "f32")
    both = Batch(2, 1, [1, 2], None, ["some-f16", "some-f32"], None, "f32")
    factored = json_question(batch, ids, by_row=False, layout="factored")
    yield ("JSON, answered", '`"layout": "factored"`'), _refused(made, factored)

    tensors = {"u": np.array([1]), "i": np.array([1, 2]), "c": np.array([np.nan, 5.0])}
    floats = safetensors.numpy.save(tensors, {"v": ids.version("some-f16")}), SAFETENSORS
    question = "no category in single rows, such as NaN among floats: say `c_given`"
    yield ("safetensors, asked", question), _refused(made, floats, SAFETENSORS)

    of_both = binary_question(both, ids, layout="factored")
    told = _refused(made, of_both, SAFETENSORS)
    yield ("factored", "rows of several versions"), told

    said = set()
    for client in made.clients.values():
        with pytest.raises(TypeError) as refused:
            client.knowledge(**batch.columns(ids), layout="factored")
        said.add(str(refused.value).partition(" ")[2])
    yield ("a client", "a layout: it takes what is smaller"), " or ".join(said)

    rows = table([batch], ids)
    by_column, by_name = ("--version-column", "v"), ("--version", ids.version("some-f16"))
    null = pa.array([None, ids.id_of(1)], rows["user_id"].type)
    for question, asked, words in (
        ("one user for all rows, without a column", rows.drop_columns("user_id"), by_column),
        ("a row without a user", rows.set_column(0, "user_id", null), by_column),
        ("several versions without a column of them", rows, (*by_name, *by_name)),
        ("a version beside a column of versions", rows, (*by_column, *by_name)),
        ("a layout", rows, (*by_name, "--layout", "factored")),
    ):
        yield ("`gkc join`", question), _failed_join(made, asked, *words)

    one = get_words(batch, ids)
    for question, more in (
        ("several rows", ("--item", str(ids.id_of(2)))),
        ("several versions", by_name),
        ("single parts", ("--parts", "user")),
        ("f16", ("--dtype", "f16")),
    ):
        yield ("`gkc get`", question), _failed(made, *one, *more)
    of_integers = get_words(batch, replace(STRINGS, prefix=INTEGERS.prefix))
    question = "a string, of a version whose ids are integers"
    yield ("`gkc get`", question), _failed(made, *of_integers)
