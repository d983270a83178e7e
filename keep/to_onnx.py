"""The students as ONNX models, and the proof that they compute what torch computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from gkc.arrays import F32, I64
from keep.compatibility import Maps
from keep.knowledge import PartModels, student_parts
from keep.models import Models

OPSET = 17
OUTPUT = "knowledge"
INPUTS = {
    "user": ("user_row", "behaviour_items"),
    "item": ("item_row", "shop_row", "category_row"),
    "user_category": ("user_row", "behaviour_items", "category_row"),
}
"""Input names of each model: columns of the bundle's tables, holding embedding-table rows."""


class PartModel(nn.Module):
    """What a student computes of one part, K_u, K_i or K_uc, as a model of its own.

    A layer behind it puts the vectors into another version's axes. The map mixes the tasks'
    vectors, so that as a layer of its own it is smaller than folded into the towers of every task.
    """

    def __init__(
        self, student: nn.Module, compute: Callable[..., Tensor], layer: nn.Linear | None
    ) -> None:
        super().__init__()
        self.student = student  # whose weights are exported
        self.compute = compute
        self.layer = layer

    def forward(self, *columns: Tensor) -> Tensor:
        """Compute (n, D) or (n, D_c) vectors from ``INPUTS``: (n,) rows, (n, T) behaviours."""
        vectors = self.compute(*columns)
        if self.layer is not None:
            vectors = self.layer(vectors)
        return vectors


def serving_models(models: Models, maps: Maps | None = None) -> dict[str, nn.Module]:
    """Cut from the students what is served, by part, in evaluation mode."""
    models.eval()
    served: dict[str, nn.Module] = {}
    for part, compute in student_parts(models).items():
        student = models.category if part == "user_category" else models.two_tower
        layer = None if maps is None else maps[part].as_layer()
        served[part] = PartModel(student, compute, layer)
    return served


def export_onnx(name: str, model: nn.Module, behaviours: int, file: Path) -> None:
    """Write one model as ONNX, with any number of rows and a fixed number of behaviours.

    Notes
    -----
    The TorchScript exporter is used: it needs no further package, and these models have no
    control flow. Its deprecation is known, and torch is pinned.
    """
    names = INPUTS[name]
    example = tuple(
        torch.ones((2, behaviours) if column == "behaviour_items" else 2, dtype=torch.int64)
        for column in names
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            example,
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(names),
            output_names=[OUTPUT],
            dynamic_axes={column: {0: "n"} for column in (*names, OUTPUT)},
        )


def largest_difference(name: str, model: nn.Module, file: Path, columns: dict[str, I64]) -> float:
    """Run a model in torch and in onnxruntime and find the largest absolute difference.

    Inputs are rows by name, (n,) or (n, T), int64; without a row there is no difference.
    """
    if len(columns[INPUTS[name][0]]) == 0:
        return 0.0
    computed = _onnx_model(name, file)(*(columns[column] for column in INPUTS[name]))
    with torch.inference_mode():
        expected = model(*(torch.from_numpy(columns[column]) for column in INPUTS[name])).numpy()
    return float(np.abs(computed - expected).max())


def bundled_models(bundle: Path) -> PartModels:
    """Load the models of a bundle, to compute what any store of it must answer, to the bit."""
    return {name: _onnx_model(name, bundle / f"{name}.onnx") for name in INPUTS}


def _onnx_model(name: str, file: Path) -> Callable[..., F32]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(*columns: I64) -> F32:
        rows = len(columns[0])
        if rows == 1:  # alone it would get other last bits than among others
            columns = tuple(np.repeat(column, 2, axis=0) for column in columns)
        (vectors,) = session.run([OUTPUT], dict(zip(INPUTS[name], columns, strict=True)))
        asked: F32 = vectors[:rows]
        return asked

    return run
