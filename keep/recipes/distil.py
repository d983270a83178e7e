"""Distil a checkpoint's students into a checkpoint of their own, which bundles are made of."""

from __future__ import annotations

from pathlib import Path

from keep.checkpoint import CheckpointError, holds_checkpoint, load_checkpoint, save_checkpoint
from keep.config import DistillationConfig
from keep.distillation import distil
from keep.log import Log
from keep.metrics_log import read_metrics, write_metrics


def distil_checkpoint(
    checkpoint: Path, log: Log, out: Path, settings: DistillationConfig | None = None
) -> None:
    """Teach the students, print how well they follow the teacher, and leave them in ``out``.

    Raises
    ------
    CheckpointError
        If ``out`` holds a checkpoint, or ``checkpoint`` cannot be read.
    DistillationError
        As for ``distil``.
    """
    if holds_checkpoint(out):
        raise CheckpointError(out, "is there already; name another --out")
    state = distil(load_checkpoint(checkpoint), log, settings)
    write_metrics(out, read_metrics(checkpoint, state.day))
    save_checkpoint(state, out)
    assert state.distillation is not None
    for line in state.distillation.lines():
        print(line)
    print(f"distilled checkpoint of day {state.day}: {out}")
