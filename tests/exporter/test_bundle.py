from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.bundle import check_digests, fingerprint, load_bundle
from exporter.errors import BundleError
from tests.exporter.bundles import Recipe, build


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    built = build(tmp_path / "b", Recipe(dim=6, category_dim=2, pad={"history": 5}))
    bundle = load_bundle(built.path)
    assert (bundle.name, bundle.dim, bundle.category_dim) == ("plain", 6, 2)
    assert [bundle.width(k) for k in ("user", "item", "user_category")] == [6, 6, 2]
    assert bundle.models["user"].inputs == {"user_id": "user_id", "history": "history"}
    assert bundle.pad == {"history": 5}
    assert bundle.tables["items"] == "items.parquet"


def test_optional_keys_may_be_left_out(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(
        lambda m: [m.pop(key, None) for key in ("tasks", "pad", "unknown", "sha256", "created_at")]
    )
    bundle = load_bundle(built.path)
    assert (bundle.pad, bundle.unknown, bundle.sha256) == ({}, {}, {})


def test_keys_that_nobody_knows_are_warned_about(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(lambda m: m.update(padd={}))
    with capture_logs() as logs:
        load_bundle(built.path)
    assert [(e["event"], e["key"]) for e in logs] == [("manifest_key_ignored", "padd")]


def test_versions_it_is_compatible_with_are_read_as_they_are(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    assert load_bundle(built.path).compatible_with == []
    told = [{"checkpoint": "ckpt", "day": 6, "relative_error": {"user": 0.1}}]
    built.change_manifest(lambda m: m.update(compatible_with=told))
    with capture_logs() as logs:
        assert load_bundle(built.path).compatible_with == told
    assert not logs


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"checkpoint": "ckpt"}, "compatible_with"),
        (None, "compatible_with"),
        (["ckpt"], "compatible_with.0"),
        ([{"checkpoint": "ckpt"}, {"day": 6}], "compatible_with.1.checkpoint"),
        ([{"checkpoint": ""}], "compatible_with.0.checkpoint"),
        ([{"checkpoint": "ckpt", "method": 1}], "compatible_with.0.method"),
        ([{"checkpoint": "ckpt", "day": "6"}], "compatible_with.0.day"),
        ([{"checkpoint": "ckpt", "day": True}], "compatible_with.0.day"),
        ([{"checkpoint": "ckpt", "relative_error": 0.1}], "compatible_with.0.relative_error"),
        *(
            (
                [{"checkpoint": "c", "relative_error": {"user": e}}],
                "compatible_with.0.relative_error",
            )
            for e in ("0.1", None, True, math.nan, math.inf)
        ),
    ],
)
def test_a_compatible_version_told_wrongly_is_named(tmp_path: Path, told: object, key: str) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(lambda m: m.update(compatible_with=told))
    with pytest.raises(BundleError, match=f"'{re.escape(key)}' must "):
        load_bundle(built.path)


def test_unknown_rows_may_be_keyed_by_column_or_by_input(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(
        lambda m: (
            m["models"]["item"].update(inputs={"item_id": "item_id", "price": "cost"}),
            m.update(unknown={"item": {"item_id": 1, "price": 2, "category_id": 3}}),
        )
    )
    assert load_bundle(built.path).unknown["item"] == {"item_id": 1, "cost": 2, "category_id": 3}


def test_a_folder_is_its_parquet_files_in_order(tmp_path: Path) -> None:
    built = build(tmp_path / "b", Recipe(folders=True))
    deep = built.path / "users" / "day=2"
    deep.mkdir()
    (deep / "part-0.parquet").write_bytes(b"")
    (built.path / "users" / "_temporary").mkdir()
    (built.path / "users" / "_temporary" / "half.parquet").write_bytes(b"")
    (built.path / "users" / ".part-9.parquet").write_bytes(b"")
    assert load_bundle(built.path).table_files("users") == [
        "users/day=2/part-0.parquet",
        "users/part-0.parquet",
        "users/part-1.parquet",
    ]


def test_a_bundle_may_itself_be_a_symlink(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    (tmp_path / "link").symlink_to(built.path)
    assert load_bundle(tmp_path / "link").table_files("users") == ["users.parquet"]


def test_digests_cover_every_file(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    digests = check_digests(load_bundle(built.path))
    files = [p for p in built.path.iterdir() if p.name != "manifest.json"]
    assert digests == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("change", ["manifest", "table", "fact"])
def test_the_fingerprint_changes_with_anything_that_decides_the_bytes(
    change: str, tmp_path: Path
) -> None:
    built = build(tmp_path / "b")

    def mark(fact: str) -> str:
        bundle = load_bundle(built.path)
        return fingerprint(bundle, check_digests(bundle), fact)

    before = mark("f16")
    assert mark("f16") == before
    if change == "manifest":
        built.change_manifest(lambda m: m.update(pad={"history": 3}))
    elif change == "table":
        built.set_column("items", "price", [0.5] * 20)
    assert mark("f32" if change == "fact" else "f16") != before
