"""Bundles that ``keep`` did not make: every part, storage type, store and form of answer agrees."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from tests.acceptance.bundles import RECIPES, Recipe, Truth, write_bundle
from tests.acceptance.reference import check_row, expect, unfactor
from tests.commands import Place, service
from tests.in_process import done, export

DTYPES = ("f16", "f32", "int8")
SAFETENSORS = "application/x-safetensors"
Question = tuple[int, int, int | None]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.name)
def test_every_path_gives_the_same_bits_and_they_are_right(
    recipe: Recipe, place: Place, tmp_path: Path
) -> None:
    truth = write_bundle(tmp_path / "bundle", recipe)
    for dtype in DTYPES:
        summary = export(tmp_path / "bundle", dtype, place, "--dtype", dtype)
        assert summary["users"] == len(truth.users)
        assert summary["items"] == len(truth.items)
        assert summary["user_categories"] == len(truth.pairs)
        done("gkc", "verify", "--version", dtype, place=place)
        done(
            "gkc-export",
            "--check",
            "--version",
            dtype,
            "--bundle",
            tmp_path / "bundle",
            place=place,
        )
    questions = _questions(truth)
    with service(place) as url, httpx.Client(base_url=url, timeout=30) as client:
        for dtype in DTYPES:
            rows, status = _ask_json(client, questions, dtype)
            for row, codes, (user, item, category) in zip(rows, status, questions, strict=True):
                check_row(row, codes, expect(truth, user, item, category), truth, dtype)
            _check_other_paths(client, questions, dtype, rows, status, truth)
            _check_get(place, questions[::37], dtype, rows[::37], status[::37])
        _check_mixed_versions(client, questions, truth)


def _questions(truth: Truth) -> list[Question]:
    """Return known and unknown users and items, with and without a category of their own."""
    users = [*list(truth.users)[:6], 987_654_321, -77]
    items = [*list(truth.items)[:10], 987_654_321, -(2**62)]
    categories = [None, -3, 2, 1000]
    return list(itertools.product(users, items, categories))


def _columns(questions: list[Question]) -> dict[str, list[Any]]:
    users, items, categories = zip(*questions, strict=True)
    return {"u": list(users), "i": list(items), "c": list(categories)}


def _ask_json(
    client: httpx.Client, questions: list[Question], version: str
) -> tuple[npt.NDArray[np.float32], list[list[int]]]:
    answer = client.post("/knowledge", json={**_columns(questions), "v": version})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    # Numbers are read as doubles and cast, as the contract says.
    rows = np.array(body["knowledge"], dtype=np.float64).astype(np.float32)
    assert [*body["parts"]] == ["user", "item", "user_item", "user_category"]
    assert [*body["versions"]] == [version]
    return rows, body["status"]


def _check_other_paths(
    client: httpx.Client,
    questions: list[Question],
    version: str,
    rows: npt.NDArray[np.float32],
    status: list[list[int]],
    truth: Truth,
) -> None:
    columns = {**_columns(questions), "v": version}
    quadruples = [
        {"u": u, "i": i, "v": version, **({} if c is None else {"c": c})} for u, i, c in questions
    ]
    by_rows = client.post("/knowledge", json={"quadruples": quadruples}).json()
    _same_bits(np.array(by_rows["knowledge"], dtype=np.float64).astype(np.float32), rows)
    assert by_rows["status"] == status

    binary = client.post("/knowledge", json=columns, headers={"Accept": SAFETENSORS})
    tensors = safetensors.numpy.load(binary.content)
    _same_bits(tensors["knowledge"], rows)
    assert tensors["status"].tolist() == status

    halves = client.post(
        "/knowledge", json={**columns, "dtype": "f16"}, headers={"Accept": SAFETENSORS}
    )
    _same_bits(safetensors.numpy.load(halves.content)["knowledge"], rows.astype(np.float16))
    in_json = client.post("/knowledge", json={**columns, "dtype": "f16"}).json()["knowledge"]
    _same_bits(np.array(in_json, dtype=np.float64).astype(np.float16), rows.astype(np.float16))

    given = [q for q in questions if q[2] is not None]
    kept = [k for k, q in enumerate(questions) if q[2] is not None]
    asked = {name: np.array(c, dtype=np.int64) for name, c in _columns(given).items()}
    binary = client.post(
        "/knowledge",
        content=safetensors.numpy.save(asked, {"v": version}),
        headers={"Content-Type": SAFETENSORS, "Accept": SAFETENSORS},
    )
    _same_bits(safetensors.numpy.load(binary.content)["knowledge"], rows[kept])

    factored = client.post(
        "/knowledge", json={**columns, "layout": "factored"}, headers={"Accept": SAFETENSORS}
    )
    assert factored.status_code == 200, factored.text
    tensors = safetensors.numpy.load(factored.content)
    kept_as = np.float16 if version == "f16" else np.float32
    assert {t.dtype for t in tensors.values() if t.dtype.kind == "f"} == {np.dtype(kept_as)}
    _same_bits(unfactor(tensors, ("user", "item", "user_item", "user_category")), rows)

    only = client.post("/knowledge", json={**columns, "parts": ["user_category", "user"]}).json()
    d, c = truth.dim, truth.category_dim
    assert only["parts"] == {"user": [0, d], "user_category": [d, d + c]}
    picked = np.concatenate([rows[:, :d], rows[:, 3 * d :]], axis=1)
    _same_bits(np.array(only["knowledge"], dtype=np.float64).astype(np.float32), picked)
    assert only["status"] == status


def _check_get(
    place: Place,
    questions: list[Question],
    version: str,
    rows: npt.NDArray[np.float32],
    status: list[list[int]],
) -> None:
    for (user, item, category), row, codes in list(zip(questions, rows, status, strict=True))[:3]:
        given = () if category is None else ("--category", category)
        asked = ("--user", user, "--item", item, *given, "--version", version)
        body = json.loads(done("gkc", "get", *asked, "--json", place=place))
        _same_bits(np.array(body["knowledge"][0], dtype=np.float64).astype(np.float32), row)
        assert body["status"] == [codes]


def _check_mixed_versions(client: httpx.Client, questions: list[Question], truth: Truth) -> None:
    """Ask versions of one width in turns; each row is that of its own version."""
    versions = [DTYPES[k % 3] for k in range(len(questions))]
    answer = client.post("/knowledge", json={**_columns(questions), "v": versions}).json()
    assert sorted(answer["versions"]) == sorted(DTYPES)
    rows = np.array(answer["knowledge"], dtype=np.float64).astype(np.float32)
    for row, codes, question, version in zip(
        rows, answer["status"], questions, versions, strict=True
    ):
        check_row(row, codes, expect(truth, *question), truth, version)


def _same_bits(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()
