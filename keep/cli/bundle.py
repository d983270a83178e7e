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
            help="Log that was pretrained on: students are distilled over pairs that it did not "
            "show, ids that are strings come from it, and its test day tells what is covered.",
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
    no_distil: Annotated[
        bool,
        typer.Option(
            "--no-distil", help="Bundle the students as pretraining left them, for comparisons."
        ),
    ] = False,
) -> None:
    """Write a bundle of a checkpoint and check its ONNX models against torch.

    Before, copies of the students learn once more, from the teacher alone, as keep distil tells;
    those of a checkpoint that keep distil made are bundled as they are.

    With --compatible-with, a model that was trained on the older version can be served this one
    at the cost that keep drift measures; the manifest says so.

    Example: keep bundle --checkpoint checkpoints/ml1m --log logs/ml1m --out bundles/ml1m-day7
    """
    # torch takes seconds to import: only this command pays for it.
    from keep.bundle import bundle, require_absent
    from keep.checkpoint import load_checkpoint
    from keep.compatibility import compatibility
    from keep.distillation import distilled
    from keep.metrics_log import read_metrics

    require_absent(out)
    opened = open_log(log)
    state = load_checkpoint(checkpoint)
    old = None if compatible_with is None else load_checkpoint(compatible_with)
    if not no_distil:
        state, old = distilled(state, opened), old and distilled(old, opened)
    metrics = read_metrics(checkpoint, state.day)
    mapped = None
    if compatible_with is not None and old is not None:
        mapped = compatibility(state, old, compatible_with.resolve().name, opened)
    for line in bundle(state, opened, out, top_categories, metrics, mapped):
        print(line)
