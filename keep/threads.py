"""Several models training at the same time in one process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_each(models: int) -> Iterator[ThreadPoolExecutor]:
    """Make a pool in which each model trains in a thread of its own, sharing the cores fairly.

    The models have nothing in common but the data, so that this needs no barrier inside a step,
    where torch's own threads would wait for each other at every operation. A thread of the pool
    uses torch with its share of the process's threads, at least one.
    """
    before = torch.get_num_threads()
    share = max(1, before // models)
    try:
        with ThreadPoolExecutor(
            models, initializer=torch.set_num_threads, initargs=(share,)
        ) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)
