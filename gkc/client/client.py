"""``Client`` and ``AsyncClient``: knowledge in one call, wherever it comes from."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from gkc.center.question import AnswerType, Question
from gkc.client.blocking import awaitable, run_here
from gkc.client.knowledge import Knowledge
from gkc.client.options import AttemptReport, Options, lock_of, urls_of
from gkc.client.pieces import ask_in_pieces
from gkc.client.question import Ids, OptionalIds, question_of
from gkc.client.service import HttpSource
from gkc.errors import BatchTooLargeError, ClientUsageError, LockMismatchError
from gkc.knowledge import Part
from gkc.lock import Lock, locked_version

if TYPE_CHECKING:
    from gkc.client.local import AsyncLocalSource, LocalSource
    from gkc.client.service_async import AsyncHttpSource


class _AnyClient:
    """What both clients have: how they were made, how they split, and what they are locked to."""

    _source: HttpSource | LocalSource | AsyncHttpSource | AsyncLocalSource

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        timeout: float = 1.0,
        retries: int = 2,
        hedge_after: float | None = None,
        max_rows: int = 10_000,
        on_request: Callable[[AttemptReport], object] | None = None,
        namespace: str | None = None,
        mirror_dir: str | os.PathLike[str] | None = None,
        lock: str | os.PathLike[str] | Lock | None = None,
        api_key: str | None = None,
        allow_stale: float = 0.0,
    ) -> None:
        options = Options(
            urls=urls_of(url),
            timeout=timeout,
            retries=retries,
            hedge_after=hedge_after,
            max_rows=max_rows,
            on_request=on_request,
            namespace=namespace,
            mirror_dir=mirror_dir,
            lock=lock_of(lock),
            api_key=api_key,
            allow_stale=allow_stale,
        )
        self.__setstate__(options)

    def __getstate__(self) -> Options:
        """Pickle how it was made."""
        return self._options

    def __setstate__(self, options: Options) -> None:
        """Begin anew from that."""
        self._options = options
        self._max_rows = options.max_rows
        self._unlocked: frozenset[tuple[str, str]] = frozenset()
        self._is_closed = False
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Say whom it asks."""
        return f"<{type(self).__name__} of {self._source.shown}>"

    def _deadline(self) -> float:
        """Return by when an answer has to be there."""
        self._check_open()
        return monotonic() + self._options.timeout

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientUsageError(ClientUsageError.CLOSED)

    def _question(
        self,
        u: Ids,
        i: Ids,
        c: OptionalIds,
        v: str | Sequence[str] | None,
        parts: Sequence[Part] | None,
        dtype: AnswerType,
    ) -> Question:
        if v is None and self._options.lock is not None:
            v = self._options.lock.only_version()
        if v is None:
            raise ClientUsageError("name the version, by v= or by a lock of one version")
        return question_of(u, i, c, v, parts, dtype, float(self._options.allow_stale))

    def _checked(self, answer: Knowledge) -> Knowledge:
        """Hand out an answer if it is what the lock says.

        Raises
        ------
        LockMismatchError
        """
        lock = self._options.lock
        if lock is None or answer.versions.items() <= self._unlocked:
            return answer
        shown = self._source.shown
        for version, generation in answer.versions.items():
            told = answer.described.get(version)
            if told is None:
                reason = f"it answered from {generation}, which is no longer current; ask once more"
                raise LockMismatchError(shown, version, reason)
            lock.check_version(version, locked_version(told, version, shown), shown)
        self._unlocked |= answer.versions.items()
        return answer

    async def _in_pieces(
        self, question: Question, ask: Callable[[Question], Awaitable[Knowledge]]
    ) -> Knowledge:
        """Ask for as many rows as are answered at once, and then for the rest."""
        at_once = self._max_rows
        try:
            return await ask_in_pieces(question, at_once, ask)
        except BatchTooLargeError as error:
            self._learn(error, at_once)
        return await ask_in_pieces(question, self._max_rows, ask)

    def _learn(self, error: BatchTooLargeError, at_once: int) -> None:
        """Ask for fewer rows at once from now on, if the error says how many.

        Fewer than this question was asked by: others may have learned the same meanwhile.
        """
        if not 0 < error.max_rows < at_once:
            raise error
        self._max_rows = min(self._max_rows, error.max_rows)


class Client(_AnyClient):
    """Knowledge in one call, for any number of threads.

    Parameters
    ----------
    url : str or sequence of str
        ``http://HOST:PORT`` or ``https://HOST:PORT`` of a service, or of several that answer alike.
        Or a store, from which this process answers by itself: ``file:PATH``, ``redis://``,
        ``rediss://`` or ``unix://``.
    timeout : float
        Seconds for a whole call: looking up the name, connecting, retries, all pieces.
    retries : int
        How often a request may be sent again after the service refused or broke the connection, or
        asked to come back later; with hedges at most a tenth of all requests.
    hedge_after : float, optional
        Seconds after which the same request goes to another address, too; the first answer counts.
    max_rows : int
        How many rows one request asks for; more are asked for in pieces.
    on_request : callable, optional
        Told an `AttemptReport` after each attempt.
    namespace : str, optional
        Of a store: which of the centers that share it; default: ``GKC_NAMESPACE``.
    mirror_dir : path, optional
        Of a store in Redis: where this host keeps its item tables; default: ``GKC_MIRROR_DIR``.
    lock : path or `gkc.lock.Lock`, optional
        What ``gkc lock`` wrote: knowledge of another vector space is never handed out.
    api_key : str, optional
        What ``gkc key new`` printed, for a service that asks for keys. Shown nowhere, but part of
        what is pickled.
    allow_stale : float
        While the store is away, how many seconds ago it may have been asked which generation is
        current; an answer whose `age` is not None is such a one.

    Raises
    ------
    ClientUsageError, StoreUrlError, CommandError
        If the URL or an option is none, or the lock's file cannot be read.

    Notes
    -----
    Host names are looked up when first used, which nothing can interrupt, and again only after an
    address failed.
    """

    _source: HttpSource | LocalSource

    def _open(self) -> None:
        kind = _local().LocalSource if self._options.is_local else HttpSource
        self._source = kind(self._options)

    def knowledge(
        self,
        *,
        u: Ids,
        i: Ids,
        c: OptionalIds = None,
        v: str | Sequence[str] | None = None,
        parts: Sequence[Part] | None = None,
        dtype: AnswerType = "f32",
    ) -> Knowledge:
        """Return what is known of users and items.

        Parameters
        ----------
        u, i : int or str, sequence or array of one of them
            Users and items: one for all rows, or one a row.
        c : the same, optional
            Categories; None, also in single rows: the item's own.
        v : str or sequence of str
            Versions; may be left out where a lock holds one.
        parts : sequence of str, optional
            Of ``user``, ``item``, ``user_item``, ``user_category``; all by default.
        dtype : {"f32", "f16"}

        Raises
        ------
        InvalidFieldsError, VersionNotFoundError
            If a value is wrong, or there is no such version.
        UnauthorizedError
            If the service asks for a key, and ``api_key`` is none of its keys.
        StoreError
            If the service cannot answer at the moment.
        DeadlineExceededError, GenerationChangedError, ServiceError
            If no answer came in time, not all of it from one generation, or none of ours.
        LockMismatchError
            If what answered is not what the client is locked to.
        ClientUsageError
            If the client is closed.
        """
        question, deadline = self._question(u, i, c, v, parts, dtype), self._deadline()
        at_once = self._max_rows
        if question.columns.n <= at_once:
            try:
                return self._checked(self._source.knowledge(question, deadline))
            except BatchTooLargeError as error:
                self._learn(error, at_once)
        ask = awaitable(partial(self._source.knowledge, deadline=deadline))
        return self._checked(run_here(self._in_pieces(question, ask)))

    def versions(self) -> dict[str, Any]:
        """Return which versions there are: the body of ``GET /versions``.

        Raises
        ------
        StoreError, DeadlineExceededError, ServiceError, ClientUsageError
            As `knowledge`.
        """
        return self._source.versions(self._deadline())

    def close(self) -> None:
        """Close the connections; what was answered stays valid."""
        self._is_closed = True
        self._source.close()

    def __enter__(self) -> Self:
        """Return itself."""
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()


class AsyncClient(_AnyClient):
    """The same for the tasks of one event loop; see `Client`."""

    _source: AsyncHttpSource | AsyncLocalSource

    def _open(self) -> None:
        if self._options.is_local:
            self._source = _local().AsyncLocalSource(self._options)
        else:
            # With asyncio, which costs as much as all the rest, and is there in whoever needs this.
            from gkc.client.service_async import AsyncHttpSource

            self._source = AsyncHttpSource(self._options)

    async def knowledge(
        self,
        *,
        u: Ids,
        i: Ids,
        c: OptionalIds = None,
        v: str | Sequence[str] | None = None,
        parts: Sequence[Part] | None = None,
        dtype: AnswerType = "f32",
    ) -> Knowledge:
        """Return what is known of users and items; see `Client.knowledge`."""
        question, deadline = self._question(u, i, c, v, parts, dtype), self._deadline()
        at_once = self._max_rows
        if question.columns.n <= at_once:
            try:
                return self._checked(await self._source.knowledge(question, deadline))
            except BatchTooLargeError as error:
                self._learn(error, at_once)
        ask = partial(self._source.knowledge, deadline=deadline)
        return self._checked(await self._in_pieces(question, ask))

    async def versions(self) -> dict[str, Any]:
        """Return which versions there are: the body of ``GET /versions``."""
        return await self._source.versions(self._deadline())

    async def close(self) -> None:
        """Close the connections; what was answered stays valid."""
        self._is_closed = True
        await self._source.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        self._check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()


def _local() -> ModuleType:
    """Return what answers from a store in this process, which is imported only then."""
    try:
        from gkc.client import local
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "gkc":
            raise
        raise ClientUsageError(
            f"{exc.name} is not installed, which a store in this process needs; "
            "install the extra: pip install 'gkc[store]'"
        ) from exc
    return local
