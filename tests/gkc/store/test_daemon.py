"""Work in a daemon thread: its result, its error, and nobody who waits for it at the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from gkc.store.daemon import in_daemon_thread


async def test_the_result_comes_back_and_others_go_on_meanwhile() -> None:
    gate = threading.Event()
    work = asyncio.create_task(in_daemon_thread(lambda: gate.wait(30)))
    await asyncio.sleep(0)
    gate.set()
    assert await work is True


async def test_what_it_raises_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


async def test_whoever_is_cancelled_leaves_it_to_itself() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(30)
        ended.set()

    task = asyncio.create_task(in_daemon_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await asyncio.to_thread(ended.wait, 30)


def test_a_process_ends_without_it() -> None:
    script = """
import asyncio, threading
from gkc.store.daemon import in_daemon_thread

async def main():
    task = asyncio.create_task(in_daemon_thread(threading.Event().wait))
    await asyncio.sleep(0.05)

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
