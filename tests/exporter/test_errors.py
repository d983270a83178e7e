from __future__ import annotations

import pytest

from exporter import errors
from gkc.errors import GkcError

EXAMPLES = [
    (errors.BundleError("item.onnx", "is gone"), ["item.onnx: is gone", "mend the bundle"]),
    (
        errors.FeatureTableError("users.parquet", "is null", column="age", row=3),
        ["users.parquet, column 'age', row 3 (counted from 0): is null", "nothing was written"],
    ),
    (
        errors.ModelOutputError("user.onnx", "knowledge", "users.parquet", 7, "gave nan"),
        ["user.onnx, output 'knowledge', for users.parquet, row 7", "nothing was published"],
    ),
    (
        errors.VerificationError("g1", "item 3 differs"),
        ["g1: item 3 differs", "export its version"],
    ),
    (
        errors.SpillError("/tmp", OSError(28, "No space left on device")),
        ["/tmp: No space left on device", "TMPDIR"],
    ),
    (errors.InterruptedExportError("v1", published=False), ["was not published", "--resume"]),
    (errors.InterruptedExportError("v1", published=True), ["is published"]),
]


@pytest.mark.parametrize(("error", "parts"), EXAMPLES)
def test_a_message_says_what_where_and_what_to_do(error: GkcError, parts: list[str]) -> None:
    assert isinstance(error, GkcError)
    for part in parts:
        assert part in str(error)


def test_the_tree_in_the_docstring_names_every_error() -> None:
    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, GkcError) and value is not GkcError
    }
    assert errors.__doc__ is not None
    assert named == {n for n in errors.__doc__.split() if n.endswith("Error")} - {"GkcError"}
