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
from gkc.client.following import FollowedStore, settings_of
from gkc.client.knowledge import Knowledge
from gkc.errors import ClientUsageError, GenerationCorruptError, GenerationNotFoundError
from gkc.settings import FollowingSettings
from gkc.store import parse_store_url

ResultT = TypeVar("ResultT")
Read = Callable[["FollowingThread", Plan, float], Sequence[Records]]

_opened: Final[weakref.WeakSet[LocalSource | AsyncLocalSource]] = weakref.WeakSet()
_of_parents: Final[list[object]] = []
"""What was open when this process was forked: its tasks, sockets and locks are its parent's."""


class LocalSource:
    """Answers questions in this process, for callers that block; for any number of threads.

    Nothing is opened before the first question. One thread follows the catalogue. Rows are laid in
    the caller's thread, from the records that a ``file:`` store has there at once, and any other
    reads on the thread that follows; what is unusual is answered there altogether.

    Parameters
    ----------
    url : str
        ``file:PATH``, ``redis://``, ``rediss://`` or ``unix://``.
    namespace : str, optional
        Which of the centers that share the store; default: ``GKC_NAMESPACE``.
    mirror_dir : path, optional
        Where this host keeps item tables of a Redis store; default: ``GKC_MIRROR_DIR``.
    timeout : float
        The seconds that deadlines allow for a whole call, as messages tell them.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    ClientUsageError
        If an argument or a variable is refused.
    """

    _following: FollowingThread | None
    _finalizer: weakref.finalize[[], LocalSource]

    def __init__(
        self,
        url: str,
        *,
        namespace: str | None = None,
        mirror_dir: str | os.PathLike[str] | None = None,
        timeout: float = 1.0,
    ) -> None:
        self._timeout = timeout
        self._settings = settings_of(url, namespace, mirror_dir)
        where = parse_store_url(url)
        self.shown = where.shown
        self._read: Read = _read_here if where.scheme == "file" else _read_there
        self._is_closed = False
        self._begin()
        _opened.add(self)

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question of layout ``rows``; as `FollowedStore.answer`."""
        following = self._enter()
        try:
            answer = self._answer_here(following, question, deadline)
            if answer is None:
                answer = following.run(following.store.answer(question, deadline))
            return following.store.knowledge(answer)
        finally:
            self._leave()

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return what ``GET /versions`` answers; as `FollowedStore.versions`."""
        following = self._enter()
        try:
            return following.run(following.store.versions(deadline))
        finally:
            self._leave()

    def close(self) -> None:
        """Wait for calls that are under way, then let go of tables, connections and the thread."""
        with self._state:
            self._is_closed = True
            self._state.wait_for(lambda: not self._inside)
            following, self._following = self._following, None
        if following is not None:
            self._finalizer.detach()
            following.stop()

    def leave_to_parent(self) -> object:
        """Return what the parent process goes on using, in a fork of it, and begin anew."""
        following = self._following
        if following is not None:
            self._finalizer.detach()
        self._begin()
        return following

    def _begin(self) -> None:
        self._state = threading.Condition(threading.Lock())
        self._inside = 0
        self._following = None

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

    def _enter(self) -> FollowingThread:
        with self._state:
            if self._is_closed:
                raise ClientUsageError("this client is closed; make another one")
            if self._following is None:
                following = FollowingThread(self._settings, self._timeout)
                self._finalizer = weakref.finalize(self, following.tell_to_stop)
                self._finalizer.atexit = False
                self._following = following  # last: a fork finds both or none
            self._inside += 1
            return self._following

    def _leave(self) -> None:
        with self._state:
            self._inside -= 1
            if self._is_closed:
                self._state.notify_all()


class AsyncLocalSource:
    """The same for callers on one event loop; nothing is opened before the first question.

    Parameters
    ----------
    url, namespace, mirror_dir, timeout
        As of `LocalSource`, which also says what is raised.
    """

    _store: FollowedStore | None
    _loop: asyncio.AbstractEventLoop | None

    def __init__(
        self,
        url: str,
        *,
        namespace: str | None = None,
        mirror_dir: str | os.PathLike[str] | None = None,
        timeout: float = 1.0,
    ) -> None:
        self._timeout = timeout
        self._settings = settings_of(url, namespace, mirror_dir)
        self.shown = parse_store_url(url).shown
        self._is_closed = False
        self._begin()
        _opened.add(self)

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
            raise ClientUsageError("this client is closed; make another one")
        loop = asyncio.get_running_loop()
        if self._store is None:
            self._store, self._loop = FollowedStore(self._settings, self._timeout), loop
        elif self._loop is not loop:
            raise ClientUsageError(
                "this AsyncClient belongs to another event loop; make one in each loop"
            )
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
        As of `LocalSource`.

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

    def begin(self, work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        """Begin work on the thread; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do work on the thread, and wait for it."""
        begun = self.begin(work)
        try:
            return begun.result()
        finally:
            begun.cancel()  # unless it is done

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
    return [_at_once(following.store.read([version]))[0] for version in plan.versions]


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


def _at_once(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine that never pauses."""
    try:
        work.send(None)
    except StopIteration as done:
        result: ResultT = done.value
        return result
    work.close()
    raise RuntimeError("a reader of mapped files paused")


def _leave_to_parent() -> None:
    _of_parents.extend([source.leave_to_parent() for source in _opened])


os.register_at_fork(after_in_child=_leave_to_parent)
