"""``keep distil``: students that learn once more at the freeze, from the teacher alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keep.config import DistillationConfig
from keep.log import open_log

DEFAULT = DistillationConfig()


def distil_command(
    checkpoint: Annotated[Path, typer.Option(metavar="CKPT", help="Checkpoint of keep pretrain.")],
    log: Annotated[
        Path,
        typer.Option(
            metavar="LOG",
            help="Log that was pretrained on: tells who was shown what up to the checkpoint's day; "
            "labels and later days are not looked at.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="CKPT", help="Checkpoint to make, for keep bundle alone.")
    ],
    pairs_per_user: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Pairs drawn per user known; several passes learn them."
        ),
    ] = DEFAULT.pairs_per_user,
    task_weight: Annotated[
        float,
        typer.Option(
            metavar="N",
            min=0,
            help="Weight of conversion and of cart beside click; matters to what tasks share.",
        ),
    ] = DEFAULT.task_weight,
    hidden_weight: Annotated[
        float,
        typer.Option(
            metavar="N", min=0, help="Weight of K_uc's error beside the teacher's mean K_ui."
        ),
    ] = DEFAULT.hidden_weight,
    train_tables: Annotated[
        bool, typer.Option("--train-tables", help="Train the tables of ids, the teacher's, too.")
    ] = DEFAULT.train_tables,
    most_steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps of a student at most.")
    ] = DEFAULT.most_steps,
    most_minutes: Annotated[
        float, typer.Option(metavar="N", min=0, help="Minutes of a student at most.")
    ] = DEFAULT.most_minutes,
) -> None:
    """Teach a checkpoint's students what its frozen teacher says of pairs that were never shown.

    keep bundle does this by default; this command is for other settings, and for what is to be
    kept: pretraining goes on from the checkpoint, which stays as it is, and not from --out. What
    is printed is how each student's logits correlate with the teacher's within a user, for users
    and items that may be drawn, and for the tenth of both that never are.

    Example: keep distil --checkpoint checkpoints/ml1m --log logs/ml1m --out checkpoints/ml1m-served
    """
    settings = DistillationConfig(
        pairs_per_user=pairs_per_user,
        task_weight=task_weight,
        hidden_weight=hidden_weight,
        train_tables=train_tables,
        most_steps=most_steps,
        most_minutes=most_minutes,
    )
    # torch takes seconds to import: only this command pays for it.
    from keep.recipes.distil import distil_checkpoint

    distil_checkpoint(checkpoint, open_log(log), out, settings)
