"""``keep bundle``: ONNX models, tables and manifest for the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keep.config import TOP_CATEGORIES
from keep.log import open_log


def bundle_command(
    checkpoint: Annotated[Path, typer.Option(metavar="CKPT", help="Checkpoint of keep pretrain.")],
    log: Annotated[
        Path,
        typer.Option(
            metavar="LOG",
            help="Log that was pretrained on: ids that are strings come from it, and its test day "
            "tells what is covered.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Bundle directory to make; must not be there yet.")
    ],
    top_categories: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Most shown categories every user is paired with. Offline rows "
            "(keep.knowledge) equal the served ones only if they are read with the same number.",
        ),
    ] = TOP_CATEGORIES,
    compatible_with: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="An older checkpoint of the same log: write the vectors in its axes.",
        ),
    ] = None,
) -> None:
    """Write a bundle of a checkpoint and check its ONNX models against torch.

    With --compatible-with, a model that was trained on the older version can be served this one
    at the cost that keep drift measures; the manifest says so.

    Example: keep bundle --checkpoint checkpoints/ml1m --log logs/ml1m --out bundles/ml1m-day7
    """
    # torch takes seconds to import: only this command pays for it.
    from keep.bundle import bundle
    from keep.checkpoint import load_checkpoint
    from keep.compatibility import compatibility
    from keep.metrics_log import read_metrics

    state = load_checkpoint(checkpoint)
    metrics = read_metrics(checkpoint, state.day)
    opened = open_log(log)
    mapped = None
    if compatible_with is not None:
        old = load_checkpoint(compatible_with)
        mapped = compatibility(state, old, compatible_with.resolve().name, opened)
    for line in bundle(state, opened, out, top_categories, metrics, mapped):
        print(line)
