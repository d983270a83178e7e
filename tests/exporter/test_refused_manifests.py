"""Each fault of a manifest is refused by its key or file, and nothing is left in the store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from exporter.errors import BundleError
from tests.exporter.bundles import Built, build
from tests.exporter.conftest import Export
from tests.exporter.places import Place
from tests.exporter.refusals import Change, manifest, refuse


def outside_by_symlink(built: Built) -> None:
    target = built.path.parent / "elsewhere.parquet"
    (built.path / "users.parquet").rename(target)
    (built.path / "users.parquet").symlink_to(target)


def outside_by_symlink_in_folder(built: Built) -> None:
    folder = built.path / "users"
    folder.mkdir()
    target = built.path.parent / "elsewhere.parquet"
    (built.path / "users.parquet").rename(target)
    (folder / "part.parquet").symlink_to(target)
    built.change_manifest(lambda m: m["tables"].update(users="users"))


def empty_folder(built: Built) -> None:
    (built.path / "users").mkdir()
    built.change_manifest(lambda m: m["tables"].update(users="users"))


def wrong_digest_in_folder(built: Built) -> None:
    folder = built.path / "users"
    folder.mkdir()
    (built.path / "users.parquet").rename(folder / "part-0.parquet")
    built.change_manifest(
        lambda m: (
            m["tables"].update(users="users"),
            m.update(sha256={"users/part-0.parquet": BAD}),
        )
    )


BAD = "0" * 64

MANIFEST_FAULTS: dict[str, tuple[Change, str]] = {
    "no manifest": (lambda b: (b.path / "manifest.json").unlink(), "is not there, so that"),
    "not JSON": (lambda b: (b.path / "manifest.json").write_text("{"), "is not JSON"),
    "not an object": (lambda b: (b.path / "manifest.json").write_text("[]"), "a JSON object"),
    "another format": (manifest(lambda m: m.update(format="gkc-bundle/2")), '"gkc-bundle/2"'),
    "no name": (manifest(lambda m: m.pop("name")), "'name'"),
    "created_at a number": (manifest(lambda m: m.update(created_at=3)), "'created_at'"),
    "no dim": (manifest(lambda m: m.pop("dim")), "'dim'"),
    "dim zero": (manifest(lambda m: m.update(dim=0)), "'dim'"),
    "dim true": (manifest(lambda m: m.update(dim=True)), "'dim'"),
    "category_dim a text": (manifest(lambda m: m.update(category_dim="4")), "'category_dim'"),
    "tasks without dim": (manifest(lambda m: m.update(tasks=[{"name": "x"}])), "'tasks.0.dim'"),
    "no models": (manifest(lambda m: m.pop("models")), "'models'"),
    "no item model": (manifest(lambda m: m["models"].pop("item")), "'models.item'"),
    "another model": (manifest(lambda m: m["models"].update(shop={})), "'models.shop'"),
    "a model is a text": (manifest(lambda m: m["models"].update(user="x")), "'models.user'"),
    "no inputs": (manifest(lambda m: m["models"]["user"].pop("inputs")), "'models.user.inputs'"),
    "a column is a number": (
        manifest(lambda m: m["models"]["user"]["inputs"].update(user_id=1)),
        "'models.user.inputs.user_id'",
    ),
    "no output": (manifest(lambda m: m["models"]["item"].pop("output")), "'models.item.output'"),
    "no tables": (manifest(lambda m: m.update(tables=[])), "'tables'"),
    "no users": (manifest(lambda m: m["tables"].pop("users")), "'tables.users'"),
    "no such model file": (
        manifest(lambda m: m["models"]["item"].update(file="gone.onnx")),
        "gone.onnx: is not in the bundle",
    ),
    "no such table": (
        manifest(lambda m: m["tables"].update(items="gone.parquet")),
        "gone.parquet: is not in the bundle",
    ),
    "absolute path": (
        manifest(lambda m: m["tables"].update(items="/etc/passwd")),
        "'/etc/passwd', which is no path inside the bundle",
    ),
    "path with ..": (
        manifest(lambda m: m["models"]["user"].update(file="../user.onnx")),
        "'../user.onnx', which is no path inside the bundle",
    ),
    "symlink that leads outside": (outside_by_symlink, "leads outside the bundle"),
    "symlink in a folder": (outside_by_symlink_in_folder, "leads outside the bundle"),
    "folder without tables": (empty_folder, "users: the folder holds no Parquet file"),
    "pad zero": (manifest(lambda m: m.update(pad={"history": 0})), "'pad.history'"),
    "pad without end": (manifest(lambda m: m.update(pad={"history": 10**10})), "10,000,000,000"),
    "pad of no column": (
        manifest(lambda m: m.update(pad={"histroy": 5})),
        "'pad.histroy' is no column that a model reads; did you mean 'history'?",
    ),
    "pad of single numbers": (
        manifest(lambda m: m.update(pad={"history": 5, "price": 5})),
        "'pad.price' is no column of lists",
    ),
    "pad a list": (manifest(lambda m: m.update(pad=[])), "'pad'"),
    "unknown of no model": (manifest(lambda m: m.update(unknown={"shop": {}})), "'unknown.shop'"),
    "unknown a list": (manifest(lambda m: m.update(unknown={"user": []})), "'unknown.user'"),
    "unknown incomplete": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 0}})),
        "'unknown.user' lacks the column 'history'",
    ),
    "unknown of another column": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 0, "history": [], "histroy": 1}})),
        "'unknown.user.histroy' feeds no input of user.onnx; did you mean 'history'?",
    ),
    "unknown a text": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": "x", "history": []}})),
        "gives 'user_id' the value 'x', which does not fit input 'user_id' of user.onnx",
    ),
    "unknown list holds null": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": [None]}})),
        "'unknown.user.history.0'",
    ),
    "unknown list for a number": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": [1], "history": []}})),
        "gives 'user_id' the value [1]",
    ),
    "unknown number for a list": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": 3}})),
        "gives 'history' the value 3",
    ),
    "unknown beyond the input": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 2**70, "history": []}})),
        "gives 'user_id' the value 1180591620717411303424",
    ),
    "unknown a fraction": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1.5, "history": []}})),
        "gives 'user_id' the value 1.5",
    ),
    "unknown list of texts": (
        manifest(lambda m: m.update(unknown={"user": {"user_id": 1, "history": [1, "x"]}})),
        "gives 'history' the value [1, 'x'], which does not fit input 'history' of user.onnx",
    ),
    "unknown category a text": (
        manifest(
            lambda m: m.update(unknown={"item": {"item_id": 0, "price": 0, "category_id": "x"}})
        ),
        "'unknown.item.category_id' is 'x', but ids are whole numbers",
    ),
    "unknown category a fraction": (
        manifest(
            lambda m: m.update(unknown={"item": {"item_id": 0, "price": 0, "category_id": 1.5}})
        ),
        "'unknown.item.category_id' is 1.5, but ids are whole numbers",
    ),
    "sha256 of another file": (
        manifest(lambda m: m.update(sha256={"item.onnx": BAD})),
        "item.onnx: has the SHA-256",
    ),
    "sha256 in a folder": (wrong_digest_in_folder, "users/part-0.parquet: has the SHA-256"),
    "sha256 no digest": (manifest(lambda m: m.update(sha256={"item.onnx": "x"})), "item.onnx"),
    "sha256 of no file": (
        manifest(lambda m: m.update(sha256={"gone": BAD})),
        "gone: is not in the bundle",
    ),
    "model takes another input": (
        manifest(lambda m: m["models"]["user"]["inputs"].pop("history")),
        "user.onnx: nothing feeds its input 'history'",
    ),
    "model lacks the input": (
        manifest(lambda m: m["models"]["user"]["inputs"].update(age="user_id")),
        "user.onnx: the manifest feeds 'age', which is no input",
    ),
    "model lacks the output": (
        manifest(lambda m: m["models"]["user"].update(output="gone")),
        "user.onnx: has no output 'gone'; its outputs: knowledge",
    ),
    "output declared of another width": (
        manifest(lambda m: m.update(dim=9)),
        "user.onnx: output 'knowledge' has shape ['n', 8], not the manifest's width 9",
    ),
    "no ONNX": (
        lambda b: (b.path / "item.onnx").write_bytes(b"no model"),
        "item.onnx: is no model that onnxruntime can load",
    ),
}


@pytest.mark.parametrize("fault", MANIFEST_FAULTS)
def test_faults_of_the_manifest(
    fault: str, file_place: Place, export: Export, tmp_path: Path
) -> None:
    built = build(tmp_path / "bundle")
    change, text = MANIFEST_FAULTS[fault]
    change(built)
    refuse(export, file_place, built, BundleError, text)


def test_right_digests_are_accepted(file_place: Place, export: Export, tmp_path: Path) -> None:
    built = build(tmp_path / "bundle")
    digests = {
        name: hashlib.sha256((built.path / name).read_bytes()).hexdigest()
        for name in (p.name for p in built.path.iterdir())
        if name != "manifest.json"
    }
    built.change_manifest(lambda m: m.update(sha256={n: d.upper() for n, d in digests.items()}))
    assert re.fullmatch(r"\d{10}-[0-9a-f]{8}", export(built, file_place).generation or "")
