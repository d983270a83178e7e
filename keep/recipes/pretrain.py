"""Pretrain the teacher and its two students, one pass over the super-domain in day order."""

from __future__ import annotations

from pathlib import Path

from keep.checkpoint import (
    CheckpointError,
    Pretraining,
    holds_checkpoint,
    load_checkpoint,
    require_ids,
    save_checkpoint,
)
from keep.config import PretrainConfig
from keep.errors import ProblemError
from keep.log import Log
from keep.metrics_log import read_metrics, write_metrics
from keep.pretraining import BEFORE_ANY_DAY, start, train_day


class NothingToLearnError(ProblemError):
    """A log without a day to learn from."""

    kind = "log "


def pretrain(
    log: Log,
    out: Path,
    from_checkpoint: Path | None = None,
    until: int | None = None,
    config: PretrainConfig | None = None,
) -> Pretraining:
    """Train day by day, print a report of each and leave a checkpoint and metrics after each.

    ``out`` may be ``from_checkpoint`` itself, whose configuration is kept. The last day is the
    log's own ``pretrain_until`` unless another is named.

    Raises
    ------
    CheckpointError
        If ``out`` holds another checkpoint, or ``from_checkpoint`` cannot be read.
    NothingToLearnError
        If the log has no day for it.
    OtherIdsError
        If its ids are not of the types of those in ``from_checkpoint``.
    """
    same = from_checkpoint is not None and out.resolve() == from_checkpoint.resolve()
    if holds_checkpoint(out) and not same:
        raise CheckpointError(
            out, "is there already; go on with it (--from-checkpoint) or name another --out"
        )
    last = log.info.pretrain_until if until is None else until
    state = None if from_checkpoint is None else load_checkpoint(from_checkpoint)
    if state is not None:
        require_ids(state, log)
    if from_checkpoint is not None and state is not None and state.distillation:
        problem = "its students are distilled; go on from the checkpoint that keep distil read"
        raise CheckpointError(from_checkpoint, problem)
    done = BEFORE_ANY_DAY if state is None else state.day
    metrics = [] if from_checkpoint is None else read_metrics(from_checkpoint, done)
    days = [day for day in log.info.days if done < day <= last]
    if not days:
        after = "" if state is None else f" after day {state.day}"
        problem = (
            f"has no day up to {last}{after} to learn from; its days are {list(log.info.days)}"
        )
        raise NothingToLearnError(log.path, f"{problem}: import further ones, or name --until")
    for number in days:
        day = log.day(number)
        if state is None:
            state = start(day, config or PretrainConfig(), string_ids=log.info.string_ids)
        report = train_day(state, number, day)
        for line in report.lines():
            print(line, flush=True)
        metrics += report.day_metrics()
        write_metrics(out, metrics)  # before the checkpoint: a saved day never lacks its metrics
        save_checkpoint(state, out)
    assert state is not None
    print(f"checkpoint of day {state.day}: {out}")
    return state
