"""Our safetensors codec, with the reference library as an independent witness."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gkc.errors import MalformedBodyError
from gkc.safetensors import dump, load

DTYPES = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float16]
DTYPES += [np.uint32, np.int32, np.float32, np.uint64, np.int64, np.float64]

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)
names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
tensor_sets = st.dictionaries(names, arrays, max_size=5)
metadata_sets = st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3)


def same(left: Any, right: Any) -> bool:
    return bool(
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


@given(tensors=tensor_sets, metadata=metadata_sets)
def test_the_library_reads_what_we_write(tensors: Any, metadata: dict[str, str]) -> None:
    body = b"".join(dump(tensors, metadata))
    found = safetensors.numpy.load(body)
    assert set(found) == set(tensors)
    assert all(same(found[name], tensor) for name, tensor in tensors.items())
    assert load(body)[1] == metadata


@given(tensors=tensor_sets, metadata=metadata_sets)
def test_we_read_what_the_library_writes(tensors: Any, metadata: dict[str, str]) -> None:
    found, told = load(safetensors.numpy.save(tensors, metadata or None))
    assert set(found) == set(tensors)
    assert all(same(found[name], tensor) for name, tensor in tensors.items())
    assert told == metadata


@given(
    tensors=st.dictionaries(names, arrays, min_size=1, max_size=3),
    data=st.data(),
)
def test_damaged_bytes_are_refused_wherever_the_library_refuses(tensors: Any, data: Any) -> None:
    body = bytearray(safetensors.numpy.save(tensors))
    kind = data.draw(st.sampled_from(["flip", "cut", "append"]))
    if kind == "flip":
        position = data.draw(st.integers(0, len(body) - 1))
        body[position] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    else:
        body += data.draw(st.binary(min_size=1, max_size=9))
    try:
        expected = safetensors.deserialize(bytes(body))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError:
        with pytest.raises(MalformedBodyError):
            load(bytes(body))
        return
    try:
        found, _ = load(bytes(body))
    except MalformedBodyError:
        return  # we may be stricter, and read fewer element types
    assert {name for name, _ in expected} == set(found)
    for name, told in expected:
        assert found[name].tobytes() == bytes(told["data"])


def document(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "U8", shape: Any = (2,), offsets: Any = (0, 2)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "shorter"),
        (b"\x01" * 7, "shorter"),
        ((2**63).to_bytes(8, "little") + b"{}", "does not fit"),
        ((100_000_001).to_bytes(8, "little") + b"{}", "does not fit"),
        (document(b"[]"), "not a JSON object"),
        (document(b" {}"), "not a JSON object"),
        (document(b"{"), "not JSON"),
        (document(b'{"__metadata__": {}, "__metadata__": {"v": "v1"}}'), "twice"),
        (document(b'{"__metadata__": {"v": "v1", "\\u0076": "v2"}}'), "twice"),
        (document({"__metadata__": {"a": 1}}), "__metadata__"),
        (document({"__metadata__": []}), "__metadata__"),
        (document({"a": 1}), "needs exactly"),
        (document({"a": entry() | {"x": 1}}, b"12"), "needs exactly"),
        (document({"a": entry(dtype="X8")}, b"12"), "unknown dtype"),
        (document({"a": entry(dtype=["U8"])}, b"12"), "unknown dtype"),
        (document({"a": entry(shape=[-2])}, b"12"), "no sizes"),
        (document({"a": entry(shape=[2.0])}, b"12"), "no sizes"),
        (document(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[-0,2]}}', b"12"), "no sizes"),
        (document({"a": entry(shape=[True, 2])}, b"12"), "no sizes"),
        (document({"a": entry(offsets=[0, 1, 2])}, b"12"), "no sizes"),
        (document({"a": entry(offsets=[2, 0])}, b"12"), "does not take"),
        (document({"a": entry(shape=[3])}, b"123"), "does not take"),
        (document({"a": entry(shape=[2**40, 1])}, b"12"), "does not take"),
        (document({"a": entry(shape=[2**40, 2**40])}, b"12"), "too large"),
        (document({"a": entry(shape=[0] * 65, offsets=[0, 0])}), "too many dimensions"),
        (document({"a": entry(shape=[2**63, 0], offsets=[0, 0])}), "too large"),
        (document({"a": entry(shape=[2**62, 0], offsets=[0, 0])}), "too large"),
        (document({"a": entry()}, b"123"), "3 follow"),
        (document({"a": entry()}, b"1"), "1 follow"),
        (document({"a": entry(offsets=[1, 3])}, b"123"), "gap or overlap"),
        (document({"a": entry(), "b": entry()}, b"12"), "gap or overlap"),
        (document({"a": entry(), "b": entry(offsets=[1, 3])}, b"123"), "gap or overlap"),
    ],
)
def test_faults_are_told(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedBodyError, match=reason):
        load(body)


def test_nothing_is_copied() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    _, view = dump({"rows": rows}, {})
    assert np.shares_memory(np.frombuffer(view, dtype=np.uint8), rows)
