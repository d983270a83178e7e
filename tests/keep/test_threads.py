"""Each model's thread gets its share of torch's threads, and nothing stays changed."""

from __future__ import annotations

import pytest
import torch

from keep.threads import one_thread_each


@pytest.mark.parametrize(("threads", "models", "share"), [(1, 3, 1), (2, 3, 1), (6, 3, 2)])
def test_threads_are_shared_out_and_given_back(threads: int, models: int, share: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with one_thread_each(models) as pool:
            futures = [pool.submit(torch.get_num_threads) for _ in range(models)]
            assert [future.result() for future in futures] == [share] * models
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="no"), one_thread_each(3):
        raise ValueError("no")
    assert torch.get_num_threads() == before
