"""``keep pretrain``: teacher and students, incremental by day."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from keep.config import PRESETS, PretrainConfig, read_config
from keep.log import open_log

SETTINGS = ", ".join(setting.name for setting in fields(PretrainConfig))


def pretrain_command(
    log: Annotated[
        Path, typer.Option(metavar="LOG", help="Log directory, as keep fetch or import writes it.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="CKPT", help="Checkpoint to write; may be --from-checkpoint.")
    ],
    from_checkpoint: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Go on with the day after this checkpoint.")
    ] = None,
    until: Annotated[
        int | None,
        typer.Option(metavar="DAY", help="Last day to learn from; default: what the log says."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help=f"TOML file of settings, for a training from scratch: {SETTINGS}."
        ),
    ] = None,
    preset: Annotated[
        Literal["default", "paper"],
        typer.Option(help="Settings left out of --config; paper: batches for billions of rows."),
    ] = "default",
) -> None:
    """Pretrain the teacher and its two students on the super-domain, day by day.

    After each day a checkpoint stands in --out, whole even if the process is killed, and beside
    it each day's metrics: metrics.jsonl, and tensorboard/ for TensorBoard.

    Example: keep pretrain --log logs/ml1m --out checkpoints/ml1m --until 6
    """
    chosen = config is not None or preset != "default"
    if chosen and from_checkpoint is not None:
        raise typer.BadParameter(
            "a checkpoint keeps its own settings; leave out --config and --preset, or "
            "--from-checkpoint"
        )
    settings = PRESETS[preset] if config is None else read_config(config, preset)
    # torch takes seconds to import: what is wrong with the settings is said before.
    from keep.recipes.pretrain import pretrain

    pretrain(open_log(log), out, from_checkpoint, until, settings)
