"""Batches through a model into stored bytes, every fault traced to its model, table and row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporter.errors import ModelOutputError
from exporter.features import Values
from exporter.feeds import unknown_inputs
from exporter.inference import InferenceError
from exporter.manifest import MANIFEST, ModelKind, TableKind
from exporter.prepare import Prepared
from gkc.arrays import F32, I64, U8
from gkc.errors import NotStorableError
from gkc.store import Defaults, ElementType, encode_vectors

TABLE_OF: Mapping[ModelKind, TableKind] = {
    "user": "users",
    "item": "items",
    "user_category": "user_categories",
}
"""The table whose rows a model has one output for."""


def infer(prepared: Prepared, kind: ModelKind, inputs: Mapping[str, Values], rows: I64) -> F32:
    """Run a model on a batch.

    Parameters
    ----------
    prepared : Prepared
    kind : model kind
    inputs : mapping of str to ndarray, shape (n,) or (n, width)
    rows : ndarray, shape (n,), int64
        Rows of the whole table that the inputs came from.

    Returns
    -------
    ndarray, shape (n, D) or (n, D_c), float32

    Raises
    ------
    ModelOutputError
        If the model fails, or its output is not as wide as it must be.
    """
    try:
        return prepared.models[kind].run(inputs)
    except InferenceError as exc:
        raise _fault(prepared, kind, rows, exc.row, exc.problem) from exc


def encode(
    prepared: Prepared, kind: ModelKind, vectors: F32, rows: I64, element_type: ElementType
) -> U8:
    """Encode a batch's vectors, shape (n, D) or (n, D_c), float32, to stored bytes.

    Raises
    ------
    ModelOutputError
        If one is not finite, or does not stay finite in the stored type.
    """
    try:
        return encode_vectors(vectors, element_type)
    except NotStorableError as exc:
        problem = f"gave {exc.value!r}, which is not finite as {element_type}"
        raise _fault(prepared, kind, rows, exc.row, problem) from exc


def _fault(
    prepared: Prepared, kind: ModelKind, rows: I64, row: int | None, problem: str
) -> ModelOutputError:
    model, table = prepared.models[kind], prepared.tables[TABLE_OF[kind]]
    file, place = table.locate(int(rows[row or 0]))
    return ModelOutputError(model.file, model.output, file, None if row is None else place, problem)


def default_vectors(prepared: Prepared, element_type: ElementType) -> Defaults:
    """Run the manifest's rows for unknown ids through their models.

    Raises
    ------
    BundleError
        If a row does not fit the model's inputs.
    ModelOutputError
        If an output is no vector that can be stored.
    """
    unknown = prepared.bundle.unknown
    category = unknown.get("item", {}).get("category_id")
    return Defaults(
        user=_default(prepared, "user", element_type),
        item=_default(prepared, "item", element_type),
        user_category=_default(prepared, "user_category", element_type),
        item_category=category if isinstance(category, int) else None,
    )


def _default(prepared: Prepared, kind: ModelKind, element_type: ElementType) -> bytes | None:
    row = prepared.bundle.unknown.get(kind)
    if row is None:
        return None
    model = prepared.models[kind]
    inputs = unknown_inputs(prepared.feeds[kind], row, prepared.longest)
    try:
        return encode_vectors(model.run(inputs), element_type).tobytes()
    except (InferenceError, NotStorableError) as exc:
        raise ModelOutputError(
            model.file, model.output, f"{MANIFEST}, 'unknown.{kind}'", None, str(exc)
        ) from exc


def largest_row(vectors: F32) -> tuple[float, int]:
    """Return the largest absolute value of some finite vectors, and its row; (0.0, 0) of none."""
    if not vectors.size:
        return 0.0, 0
    of_rows = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    row = int(of_rows.argmax())
    return float(of_rows[row]), row
