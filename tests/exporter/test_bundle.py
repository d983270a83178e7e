from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.bundle import (
    check_digests,
    external_files,
    fingerprint,
    load_bundle,
    vector_space,
)
from exporter.errors import BundleError
from gkc.store import IdTypes
from tests.exporter.bundles import Built, Recipe, Term, build


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    built = build(tmp_path / "b", Recipe(dim=6, category_dim=2, pad={"history": 5}))
    bundle = load_bundle(built.path)
    manifest = bundle.manifest
    assert (manifest.name, manifest.dim, manifest.category_dim) == ("plain", 6, 2)
    assert [bundle.width(k) for k in ("user", "item", "user_category")] == [6, 6, 2]
    assert bundle.models["user"].inputs == {"user_id": "user_id", "history": "history"}
    assert manifest.pad == {"history": 5}
    assert bundle.tables["items"] == ["items.parquet"]


def test_optional_keys_may_be_left_out(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(
        lambda m: [m.pop(key, None) for key in ("tasks", "pad", "unknown", "sha256", "created_at")]
    )
    bundle = load_bundle(built.path)
    assert (bundle.manifest.pad, bundle.unknown, bundle.sha256) == ({}, {}, {})


def test_versions_it_is_compatible_with_are_read_as_they_are(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    assert load_bundle(built.path).manifest.compatible_with == []
    told = [{"checkpoint": "ckpt", "day": 6, "relative_error": {"user": 0.1}}]
    built.change_manifest(lambda m: m.update(compatible_with=told))
    assert load_bundle(built.path).manifest.compatible_with == told


def test_unknown_rows_may_be_keyed_by_column_or_by_input(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    built.change_manifest(
        lambda m: (
            m["models"]["item"].update(inputs={"item_id": "item_id", "price": "cost"}),
            m.update(unknown={"item": {"item_id": 1, "price": 2, "category_id": 3}}),
        )
    )
    assert load_bundle(built.path).unknown["item"] == {"item_id": 1, "cost": 2, "category_id": 3}


def test_unknown_rows_are_keyed_by_column_where_several_feed_an_input(tmp_path: Path) -> None:
    term = Term("item_id", "float32", 2, name="X", beside=("price",))
    built = build(tmp_path / "b", Recipe(item=[term]))

    def unknown(**row: Any) -> dict[str, Any]:
        built.change_manifest(lambda m: m.update(unknown={"item": row}))
        return dict(load_bundle(built.path).unknown["item"])

    assert unknown(item_id=1, price=2) == {"item_id": 1, "price": 2}
    with pytest.raises(BundleError, match=r"'unknown\.item' lacks the column 'price' that feeds"):
        unknown(item_id=1, X=[1, 2])
    with pytest.raises(BundleError, match=r"'unknown\.item\.X' feeds no input .*; known: .*price"):
        unknown(item_id=1, price=2, X=[1, 2])


def in_folder(built: Built) -> Path:
    """Put the table of users into a folder of its own, under a name without an ending."""
    folder = built.path / "users"
    folder.mkdir()
    (built.path / "users.parquet").rename(folder / "000000_0")
    built.change_manifest(lambda m: m["tables"].update(users="users"))
    return folder


def test_a_folder_is_all_its_files_in_order_whatever_their_names(tmp_path: Path) -> None:
    folder = in_folder(build(tmp_path / "b"))
    spark = folder / "day=2.parquet"
    spark.mkdir()
    (spark / "part-0.PARQUET").touch()
    (folder / "_day=3").mkdir()
    (folder / "_day=3" / "part.pq").touch()
    for marker in ("_SUCCESS", ".part-0.crc", "_metadata"):
        (folder / marker).write_bytes(b"PAR1" if marker == "_metadata" else b"")
    bundle = load_bundle(tmp_path / "b")
    assert bundle.tables["users"] == [
        "users/000000_0",
        "users/_day=3/part.pq",
        "users/day=2.parquet/part-0.PARQUET",
    ]
    assert bundle.skipped == []


def test_rows_that_are_passed_over_for_their_name_are_told(tmp_path: Path) -> None:
    folder = in_folder(build(tmp_path / "b"))
    (folder / "_temporary").mkdir()
    hidden = ["users/.part-9.parquet", "users/_temporary/half.parquet"]
    for name in hidden:
        (tmp_path / "b" / name).write_bytes(b"PAR1")
    bundle = load_bundle(tmp_path / "b")
    assert bundle.tables["users"] == ["users/000000_0"]
    assert bundle.skipped == hidden
    (folder / "000000_0").unlink()
    problem = "users: the folder holds no Parquet file but hidden ones: the name of users/.part-9"
    with pytest.raises(BundleError, match=problem):
        load_bundle(tmp_path / "b")


def link_to_a_folder(folder: Path) -> None:
    (folder.parent / "more").mkdir()
    (folder / "more").symlink_to(folder.parent / "more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link_to_a_folder, r"users/more: is a link to a folder"),
        (lambda folder: os.mkfifo(folder / "pipe"), r"users/pipe: is no regular file"),
        (lambda folder: (folder / "gone").symlink_to(folder / "x"), "users/gone: is no regular"),
        (lambda folder: (folder / "loop").symlink_to(folder / "loop"), "is a link that leads now"),
        (lambda folder: (folder / "_delta_log").mkdir(), "users: is a Delta table"),
        (lambda folder: (folder / os.fsdecode(b"p\xff")).touch(), "has a name that is not UTF-8"),
    ],
)
def test_what_is_no_file_of_a_folder_is_named(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    change(in_folder(build(tmp_path / "b")))
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / "b")


def test_a_bundle_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nope: is not there; --bundle names the folder of"):
        load_bundle(tmp_path / "nope")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="file: is no folder"):
        load_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match=r"manifest\.json: is not there, so that"):
        load_bundle(tmp_path)
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match=r"manifest\.json: is no file"):
        load_bundle(tmp_path)


def test_a_bundle_may_itself_be_a_symlink(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    (tmp_path / "link").symlink_to(built.path)
    assert load_bundle(tmp_path / "link").tables["users"] == ["users.parquet"]


def with_external_weights(built: Built, kind: str = "item") -> Path:
    """Keep a model's embeddings in a file beside it, as torch does with large ones."""
    file = built.path / f"{kind}.onnx"
    loaded = onnx.load(str(file))
    onnx.save(
        loaded,
        str(file),
        save_as_external_data=True,
        location=f"{file.name}.data",
        size_threshold=1024,
    )
    return built.path / f"{file.name}.data"


def test_external_weights_are_part_of_their_model(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    data = with_external_weights(built)
    bundle = load_bundle(built.path)
    assert bundle.weights["item"] == ["item.onnx.data"]
    digests = check_digests(bundle)
    before = fingerprint(bundle, digests)
    data.write_bytes(data.read_bytes()[::-1])
    changed = check_digests(bundle)
    assert {f for f in digests if digests[f] != changed[f]} == {"item.onnx.data"}
    assert fingerprint(bundle, changed) != before


def test_missing_external_weights_are_named(tmp_path: Path) -> None:
    built = build(tmp_path / "b")
    with_external_weights(built).unlink()
    with pytest.raises(BundleError, match=r"^item\.onnx: keeps weights in 'item\.onnx\.data', whi"):
        load_bundle(built.path)


def test_checksums_are_of_a_whole_model_and_a_whole_folder(tmp_path: Path) -> None:
    built = build(tmp_path / "b", Recipe(folders=True))
    with_external_weights(built)
    digests = check_digests(load_bundle(built.path))
    for file, other in (
        ("item.onnx", "item.onnx.data"),
        ("users/part-0.parquet", "users/part-1.parquet"),
        ("users/part-1.parquet", "users/part-0.parquet"),
    ):
        manifest = {**built.manifest(), "sha256": {file: digests[file]}}
        (built.path / "manifest.json").write_text(json.dumps(manifest))
        problem = f"'sha256' has {file} but not {other}.*add it: {digests[other]}"
        with pytest.raises(BundleError, match=problem):
            load_bundle(built.path)
    built.change_manifest(lambda m: m.update(sha256={f"./{f}": d for f, d in digests.items()}))
    assert check_digests(load_bundle(built.path)) == digests


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


def external(name: str, location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_tensors_are_found_in_graphs_nodes_branches_and_functions(tmp_path: Path) -> None:
    branch = helper.make_graph([], "branch", [], [], [external("b", "branch.data")])
    constant = helper.make_node("Constant", [], ["c"], value=external("c", "node.data"))
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    inside = helper.make_node("Constant", [], ["d"], value=external("d", "function.data"))
    function = helper.make_function("own", "F", [], ["d"], [inside], [helper.make_opsetid("", 17)])
    plain = numpy_helper.from_array(np.zeros(1000, np.float32), "plain")
    tensors = [plain, external("a", "graph.data"), external("e", "graph.data")]
    graph = helper.make_graph([constant, choice], "g", [], [], tensors)
    model = helper.make_model(graph, functions=[function])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert external_files(tmp_path / "m.onnx") == [
        "branch.data",
        "function.data",
        "graph.data",
        "node.data",
    ]


def test_what_is_no_external_tensor_is_none(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.touch()
    assert external_files(file) == []
    tensor = external("a", "gone.data")
    tensor.data_location = TensorProto.DEFAULT
    graph = helper.make_graph([], "g", [], [], [tensor])
    file.write_bytes(helper.make_model(graph).SerializeToString())
    assert external_files(file) == []


@pytest.mark.parametrize("raw", [b"no model", b"\x3a\xff\xff\x03", b"\xff" * 20])
def test_what_is_no_protobuf_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(raw)
    with pytest.raises(ValueError, match=r"a field|no field|a whole number"):
        external_files(tmp_path / "m.onnx")


def test_a_space_of_integers_is_named_by_the_models_alone(tmp_path: Path) -> None:
    bundle = load_bundle(build(tmp_path / "bundle").path)
    digests = {model.file: kind for kind, model in bundle.models.items()}
    models = "user=user\nitem=item\nuser_category=user_category"
    names = {
        types: vector_space(bundle, digests, types) for types in (IdTypes(), IdTypes("string"))
    }
    assert names == {
        types: "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        for types, text in zip(names, (models, f"{models}\nids=string,int64,int64"), strict=True)
    }
