"""Stores answered in the caller's process, without a service: blocking, and on a loop of its own.

The catalogue is followed meanwhile, as a service follows it: by a task of the caller's loop, or by
a thread beside blocking callers.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from gkc.center.plan import Plan, Records
from gkc.center.question import Answer, Question
from gkc.client.blocking import LoopTask, run_here
from gkc.client.following import FollowedStore, settings_of
from gkc.client.knowledge import Knowledge
from gkc.client.options import Options
from gkc.errors import ClientUsageError, GenerationCorruptError, GenerationNotFoundError
from gkc.settings import FollowingSettings
from gkc.store import parse_store_url

ResultT = TypeVar("ResultT")
Read = Callable[["FollowingThread", Plan, float], Sequence[Records]]

_LAYING_SECONDS: Final = 1.0
"""How long rows that were read by the deadline are still laid, at most."""
_opened: Final[weakref.WeakSet[_AnyLocalSource]] = weakref.WeakSet()
_of_parents: Final[list[object]] = []
"""What was open when this process was forked: its tasks, sockets and locks are its parent's."""


class _AnyLocalSource:
    """A store that is opened at the first question, and anew in a fork.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    ClientUsageError
        If an option or a variable is refused.
    """

    def __init__(self, options: Options) -> None:
        self._settings = settings_of(options.urls[0], options.namespace, options.mirror_dir)
        self._timeout = options.timeout
        self._where = parse_store_url(options.urls[0])
        self.shown = self._where.shown
        self._is_closed = False
        self._begin()
        _opened.add(self)

    def _begin(self) -> None:
        raise NotImplementedError

    def leave_to_parent(self) -> object:
        """Return what the parent process goes on using, in a fork of it, and begin anew."""
        raise NotImplementedError


class LocalSource(_AnyLocalSource):
    """Answers questions in this process, for callers that block; for any number of threads.

    One thread follows the catalogue. Rows are laid in the caller's thread, from the records that a
    ``file:`` store has there at once, and any other reads on the thread that follows; what is
    unusual is answered there altogether.
    """

    _following: FollowingThread | None
    _finalizer: weakref.finalize[[], LocalSource]

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question of layout ``rows``; as `FollowedStore.answer`."""
        call = object()
        try:
            following = self._enter(call, deadline)
            answer = self._answer_here(following, question, deadline)
            if answer is None:
                answer = following.run(following.store.answer(question, deadline))
            return following.store.knowledge(answer)
        finally:
            self._leave(call)

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return what ``GET /versions`` answers; as `FollowedStore.versions`."""
        call = object()
        try:
            following = self._enter(call, deadline)
            return following.run(following.store.versions(deadline))
        finally:
            self._leave(call)

    def close(self) -> None:
        """Wait for calls that are under way, then let go of tables, connections and the thread.

        A call is over soon after its deadline: one that Ctrl-C ended uncounted is not waited for.
        """
        with self._lock:
            self._is_closed = True
            while (seconds := self._seconds_to_wait()) > 0:
                self._left.wait(min(seconds, threading.TIMEOUT_MAX))
            following, self._following = self._following, None
        if following is not None:
            self._finalizer.detach()
            following.stop()

    def _seconds_to_wait(self) -> float:
        if not self._inside:
            return 0
        return max(self._inside.values()) + _LAYING_SECONDS - time.monotonic()

    def leave_to_parent(self) -> object:
        """Return what the parent process goes on using, in a fork of it, and begin anew."""
        following = self._following
        if following is not None:
            self._finalizer.detach()
        self._begin()
        return following

    def _begin(self) -> None:
        # Ctrl-C in a Condition's own code can leave it held; that of a bare lock is not Python's.
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._inside: dict[object, float] = {}
        self._following = None
        self._read: Read = _read_here if self._where.scheme == "file" else _read_there

    def _answer_here(
        self, following: FollowingThread, question: Question, deadline: float
    ) -> Answer | None:
        """Answer what is loaded in this thread; None if more has to be done for it."""
        plan = following.store.plan(question)
        if plan is None:
            return None
        try:
            return plan.finish(self._read(following, plan, deadline))
        except (GenerationNotFoundError, GenerationCorruptError):
            return None  # another generation may answer by now

    def _enter(self, call: object, deadline: float) -> FollowingThread:
        with self._lock:
            if self._is_closed:
                raise ClientUsageError(ClientUsageError.CLOSED)
            if self._following is None:
                following = FollowingThread(self._settings, self._timeout)
                self._finalizer = weakref.finalize(self, following.tell_to_stop)
                self._finalizer.atexit = False
                self._following = following  # last: a fork finds both or none
            self._inside[call] = deadline
            return self._following

    def _leave(self, call: object) -> None:
        with self._lock:
            self._inside.pop(call, None)
            if self._is_closed:
                self._left.notify_all()


class AsyncLocalSource(_AnyLocalSource):
    """The same for callers on one event loop."""

    _store: FollowedStore | None
    _loop: asyncio.AbstractEventLoop | None

    async def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question of layout ``rows``; as `FollowedStore.answer`."""
        store = self._enter()
        try:
            return store.knowledge(await store.answer(question, deadline))
        finally:
            self._leave()

    async def versions(self, deadline: float) -> dict[str, Any]:
        """Return what ``GET /versions`` answers; as `FollowedStore.versions`."""
        store = self._enter()
        try:
            return await store.versions(deadline)
        finally:
            self._leave()

    async def close(self) -> None:
        """Wait for calls that are under way, then let go of tables and connections."""
        self._is_closed = True
        if self._inside:
            await self._left.wait()
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def leave_to_parent(self) -> object:
        """Return what the parent process goes on using, in a fork of it, and begin anew."""
        store = self._store
        self._begin()
        return store

    def _begin(self) -> None:
        self._store = None
        self._loop = None
        self._inside = 0
        self._left = asyncio.Event()

    def _enter(self) -> FollowedStore:
        if self._is_closed:
            raise ClientUsageError(ClientUsageError.CLOSED)
        loop = asyncio.get_running_loop()
        if self._store is None:
            self._store, self._loop = FollowedStore(self._settings, self._timeout), loop
        elif self._loop is not loop:
            raise ClientUsageError(ClientUsageError.OTHER_LOOP)
        self._inside += 1
        return self._store

    def _leave(self) -> None:
        self._inside -= 1
        if self._is_closed and not self._inside:
            self._left.set()


class FollowingThread:
    """A daemon thread with an event loop, on which a store is followed.

    Parameters
    ----------
    settings : FollowingSettings
    timeout : float
        As of `FollowedStore`.

    Attributes
    ----------
    store : FollowedStore
    """

    def __init__(self, settings: FollowingSettings, timeout: float) -> None:
        self._timeout = timeout
        started: Future[FollowedStore] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._follow(settings, started)),
            name="gkc-store",
            daemon=True,
        )
        self._thread.start()
        self.store = started.result()

    def begin(self, work: Coroutine[Any, Any, ResultT]) -> LoopTask[ResultT]:
        """Begin work on the thread."""
        return LoopTask(self._loop, work)

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do work on the thread, and wait for it."""
        task = self.begin(work)
        try:
            return task.result()
        finally:
            task.cancel()  # unless it is done

    def tell_to_stop(self) -> None:
        """Have the thread close its store and end, soon."""
        self._loop.call_soon_threadsafe(self._stopping.set)

    def stop(self) -> None:
        """Have the thread close its store and end, and wait for that."""
        self.tell_to_stop()
        self._thread.join()

    async def _follow(self, settings: FollowingSettings, started: Future[FollowedStore]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            store = FollowedStore(settings, self._timeout)
        except Exception as exc:  # noqa: BLE001  # raised where the thread was started
            started.set_exception(exc)
            return
        started.set_result(store)
        await self._stopping.wait()
        await store.close()


def _read_here(following: FollowingThread, plan: Plan, deadline: float) -> Sequence[Records]:
    """Read records that are mapped memory: nothing is waited for."""
    return [run_here(following.store.read([version]))[0] for version in plan.versions]


def _read_there(following: FollowingThread, plan: Plan, deadline: float) -> Sequence[Records]:
    """Read records on the thread that has the connection, and look items up meanwhile."""
    reading = following.begin(following.store.read(plan.versions))
    try:
        plan.find_items()
        return reading.result(deadline - time.monotonic())
    except TimeoutError as exc:
        raise following.store.late() from exc
    finally:
        reading.cancel()  # unless it is done


def _leave_to_parent() -> None:
    _of_parents.extend([source.leave_to_parent() for source in _opened])


os.register_at_fork(after_in_child=_leave_to_parent)
