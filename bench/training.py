"""Training throughput of keep's teacher beside the DIN of deepctr-torch, one task, equal widths.

Both sides learn the click task from the same impressions of a simulated log, with the same widths,
history length, batch size, Adam, threads and dtype, relu everywhere, no batch norm, no pairwise
loss. Each runs in a process and an environment of its own, in turns; a ratio is of neighbours.
"With data" counts everything between columns in memory and a trained model: for keep the log's raw
ids, for the peer the NumPy columns that its ``fit`` takes, their histories gathered before.

    python -m bench.training [--samples 81920] [--rounds 5]

The peer is installed from ``requirements/peer.txt`` into ``.venv-peer`` at the first run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from bench.checkouts import ROOT
from bench.environments import separate_environment
from bench.report import print_circumstances, spread
from bench.stage import in_turns, ratios
from bench.training_ours import part_of
from bench.training_task import Result, Task, ours_file, peer_file
from keep.features import PADDING, Features, Rows
from keep.log import open_log
from keep.sources.simulator import SimulatorConfig, simulate

LOG = SimulatorConfig(
    preset="bench",
    users=20_000,
    items=30_000,
    categories=80,
    shops=1_000,
    impressions_per_day=200_000,
    days=8,
)
SEED = 1


def main(
    samples: Annotated[int, typer.Option(help="Impressions trained on.")] = Task.samples,
    threads: Annotated[int, typer.Option(help="Threads and cores of each side.")] = Task.threads,
    rounds: Annotated[int, typer.Option(help="Processes of each side.")] = 5,
) -> None:
    """Simulate a log, train both sides in turns and print what they did and how fast."""
    print_circumstances("bench.training", "torch")
    peer = separate_environment("peer", f"torch=={version('torch')}") / "python"
    with tempfile.TemporaryDirectory() as folder:
        task = Task(folder, samples=samples, threads=threads)
        write_data(task)
        _print_task(task)
        commands = {"ours": sys.executable, "peer": str(peer)}
        measures = {side: partial(_run, side, python, task) for side, python in commands.items()}
        ours, theirs = in_turns(measures, rounds).values()
    _print_results(ours, theirs)


def write_data(task: Task, log_config: SimulatorConfig = LOG) -> None:
    """Write the same impressions in the form that each side starts from.

    The last day simulated, which must have ``samples + held_out`` impressions, is trained on; the
    others fill the histories.
    """
    path = Path(task.folder) / "log"
    simulate(log_config, SEED, path, lambda _: None)
    log, features = open_log(path), Features(task.behaviours)
    for earlier in log.days(1, log_config.days - 1):
        features.grow(earlier)
        features.observe(earlier)
    day = log.day(log_config.days)
    total = task.samples + task.held_out
    order = np.random.default_rng(SEED).permutation(len(day))[:total]
    day = part_of(day, order)
    features.grow(day)
    ours_file(task).write_bytes(pickle.dumps((features, day)))
    np.savez(peer_file(task), allow_pickle=False, **peer_columns(features.encode(day), features))


def peer_columns(rows: Rows, features: Features) -> dict[str, NDArray[np.generic]]:
    """Lay impressions out as deepctr-torch takes them.

    Returns
    -------
    dict of str to ndarray
        int32 rows (n,) of user, item, shop and category, (n, T) of the behaviours, padded on the
        right where the features' are on the left, and ``seq_length``; float32 ``label``; int64
        ``sizes`` of the four tables.
    """
    left = features.history[rows.user]  # (n, T)
    order = np.argsort(left == PADDING, axis=1, kind="stable")
    items = np.take_along_axis(left, order, axis=1)
    tables = (features.users, features.items, features.shops, features.categories)
    return {
        "user": rows.user.astype(np.int32),
        "item": rows.item[:, 0].astype(np.int32),
        "shop": rows.item[:, 1].astype(np.int32),
        "category": rows.item[:, 2].astype(np.int32),
        "hist_item": items.astype(np.int32),
        "hist_shop": features.item_shop[items].astype(np.int32),
        "hist_category": features.item_category[items].astype(np.int32),
        "seq_length": np.count_nonzero(left, axis=1).astype(np.int32),
        "label": rows.labels[:, 0].astype(np.float32),
        "sizes": np.array([len(table) for table in tables], dtype=np.int64),
    }


def _run(side: str, python: str, task: Task) -> Result:
    done = subprocess.run(
        [python, "-m", f"bench.training_{side}", json.dumps(dataclasses.asdict(task))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(task.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    # The package prints too, from a thread of its own: ours is the line that is JSON.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    return Result(**json.loads(line))


def _print_task(task: Task) -> None:
    columns = np.load(peer_file(task))
    users, items, shops, categories = columns["sizes"]
    length = columns["seq_length"]
    print(
        f"task     click; {task.samples:,} impressions once, batches of {task.batch_size}, "
        f"Adam {task.learning_rate} (fused), {task.threads} threads, float32\n"
        f"widths   user {task.user_dim}, item, shop, category {task.feature_dim} each; attention "
        f"{task.attention}; MLP {', '.join(map(str, task.mlp))}; relu, no batch norm\n"
        f"tables   {users:,} users, {items:,} items, {shops:,} shops, {categories:,} categories\n"
        f"history  {task.behaviours} long, {length.mean():.1f} of them behaviours on average\n"
        "not equal: the peer's activation unit also sees q - k, which adds nothing to q and k but "
        "weights; keep's MLP ends in two logits of which only the difference is used",
        flush=True,
    )


def _print_results(ours: list[Result], peer: list[Result]) -> None:
    print(f"{'':26}{ours[0].package:28}{peer[0].package:28}ratio")
    print(f"{'weights of the task':26}{ours[0].parameters:<28,}{peer[0].parameters:<28,}")
    for name, field in (
        ("mean log loss of the pass", "training_loss"),
        ("log loss held out", "held_out_loss"),
    ):
        losses = [spread([getattr(r, field) for r in side], 4) for side in (ours, peer)]
        print(f"{name:26}{losses[0]:28}{losses[1]:28}")
    rates, peer_rates = ([result.fit_rate for result in side] for side in (ours, peer))
    told = f"{spread(rates, 0):28}{spread(peer_rates, 0):28}{spread(ratios(rates, peer_rates))}"
    print(f"{'samples/s with data':26}{told}")


if __name__ == "__main__":
    typer.run(main)
