"""External tensors are found wherever a model may hold a tensor, as onnx writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.onnx_file import external_files


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
