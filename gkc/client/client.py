"""``Client`` and ``AsyncClient``: knowledge in one call, wherever it comes from."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from time import monotonic
from types import ModuleType, TracebackType
from typing import Any, Final, Protocol, Self, cast

import numpy as np

from gkc.center.question import AnswerType, Question
from gkc.client.knowledge import Knowledge
from gkc.client.question import Ids, OptionalIds, pieces_of, question_of
from gkc.client.service import HttpSource
from gkc.client.service_asking import AttemptReport, Options
from gkc.errors import (
    BatchTooLargeError,
    ClientUsageError,
    GenerationChangedError,
    LockMismatchError,
)
from gkc.knowledge import Part
from gkc.lock import Lock, locked_version

_SERVICES: Final = ("http://", "https://")
_STORES: Final = ("file:", "redis://", "rediss://", "unix://")
Pieces = Generator[Question, Knowledge, Knowledge]
"""Yields what to ask a source, returns all that was answered."""


class Source(Protocol):
    """Where answers come from, for callers that block; ``shown`` names it, without secrets."""

    shown: str

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        ...

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class AsyncSource(Protocol):
    """The same on an event loop."""

    shown: str

    async def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        ...

    async def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class _AnyClient:
    """What both clients have: how they were made, how they split, and what they are locked to."""

    _source: Source | AsyncSource

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
    ) -> None:
        self._lock = _lock_of(lock)
        self._unlocked: frozenset[tuple[str, str]] = frozenset()
        self._made_of: Mapping[str, Any] = {
            "url": url,
            "timeout": timeout,
            "retries": retries,
            "hedge_after": hedge_after,
            "max_rows": max_rows,
            "on_request": on_request,
            "namespace": namespace,
            "mirror_dir": mirror_dir,
            "lock": self._lock,
        }
        _check("timeout", timeout, _is_seconds(timeout), "a number of seconds above 0")
        _check("retries", retries, _is_count(retries, 0), "a count of 0 or more")
        is_hedge = hedge_after is None or _is_seconds(hedge_after)
        _check("hedge_after", hedge_after, is_hedge, "a number of seconds above 0, or None")
        _check("max_rows", max_rows, _is_count(max_rows, 1), "a count of 1 or more")
        is_hook = on_request is None or callable(on_request)
        _check("on_request", on_request, is_hook, "a function, or None")
        self._urls = _urls(url)
        self._is_local = self._urls[0].startswith(_STORES)
        self._place = {"namespace": namespace, "mirror_dir": mirror_dir}
        self._check_kind()
        self._options = Options(timeout, retries, hedge_after, on_request)
        self._max_rows = max_rows
        self._is_closed = False
        self._open()

    def _open(self) -> None:
        raise NotImplementedError

    def _check_kind(self) -> None:
        """Refuse options that the kind of URL has no use for."""
        if self._is_local:
            kind, others = "a service", ("hedge_after", "on_request")
        else:
            kind, others = "a store in this process", ("namespace", "mirror_dir")
        for name in others:
            if self._made_of[name] is not None:
                raise ClientUsageError(f"{name}= is for {kind}; leave it out")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how it was made: it opens anew."""
        return _made, (type(self), dict(self._made_of))

    def __repr__(self) -> str:
        """Say whom it asks."""
        return f"<{type(self).__name__} of {self._source.shown}>"

    def _deadline(self) -> float:
        """Return by when an answer has to be there."""
        self._check_open()
        return monotonic() + self._options.timeout

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientUsageError("this client is closed; make another one")

    def _question(
        self,
        u: Ids,
        i: Ids,
        c: OptionalIds,
        v: str | Sequence[str] | None,
        parts: Sequence[Part] | None,
        dtype: AnswerType,
    ) -> Question:
        if v is None:
            v = self._lock.only_version() if self._lock else None
        if v is None:
            raise ClientUsageError("name the version, by v= or by a lock of one version")
        return question_of(u, i, c, v, parts, dtype)

    def _checked(self, answer: Knowledge) -> Knowledge:
        """Hand out an answer if it is what the lock says.

        Raises
        ------
        LockMismatchError
        """
        if self._lock is None or answer.versions.items() <= self._unlocked:
            return answer
        for version, generation in answer.versions.items():
            told = answer.described.get(version)
            if told is None:
                reason = f"it answered from {generation}, which is no longer current; ask once more"
                raise LockMismatchError(self._source.shown, version, reason)
            served = locked_version(told, version, self._source.shown)
            self._lock.check_version(version, served, self._source.shown)
        self._unlocked |= answer.versions.items()
        return answer

    def _split(self, question: Question) -> Pieces:
        """Ask in pieces of as many rows as are answered at once."""
        try:
            return (yield from _in_pieces(pieces_of(question, self._max_rows)))
        except BatchTooLargeError as error:
            self._learn(error)
        return (yield from _in_pieces(pieces_of(question, self._max_rows)))

    def _learn(self, error: BatchTooLargeError) -> None:
        """Ask for fewer rows at once from now on, if the error says how many."""
        if not 0 < error.max_rows < self._max_rows:
            raise error
        self._max_rows = error.max_rows


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

    Raises
    ------
    ClientUsageError, StoreUrlError, CommandError
        If the URL or an option is none, or the lock's file cannot be read.

    Notes
    -----
    Host names are looked up when first used, which nothing can interrupt, and again only after an
    address failed.
    """

    def _open(self) -> None:
        self._source: Source
        if self._is_local:
            self._source = _local().LocalSource(
                self._urls[0], **self._place, timeout=self._options.timeout
            )
        else:
            self._source = HttpSource(self._urls, self._options)

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
        u, i : int, sequence or array of int
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
        if question.columns.n <= self._max_rows:
            try:
                return self._checked(self._source.knowledge(question, deadline))
            except BatchTooLargeError as error:
                self._learn(error)
        pieces = self._split(question)
        try:
            piece = next(pieces)
            while True:
                try:
                    answer = self._source.knowledge(piece, deadline)
                except BatchTooLargeError as error:
                    piece = pieces.throw(error)
                else:
                    piece = pieces.send(answer)
        except StopIteration as done:
            return self._checked(done.value)

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()


class AsyncClient(_AnyClient):
    """The same for the tasks of one event loop; see `Client`."""

    def _open(self) -> None:
        self._source: AsyncSource
        if self._is_local:
            self._source = _local().AsyncLocalSource(
                self._urls[0], **self._place, timeout=self._options.timeout
            )
        else:
            # With asyncio, which costs as much as all the rest, and is there in whoever needs this.
            from gkc.client.service_async import AsyncHttpSource

            self._source = AsyncHttpSource(self._urls, self._options)

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
        if question.columns.n <= self._max_rows:
            try:
                return self._checked(await self._source.knowledge(question, deadline))
            except BatchTooLargeError as error:
                self._learn(error)
        pieces = self._split(question)
        try:
            piece = next(pieces)
            while True:
                try:
                    answer = await self._source.knowledge(piece, deadline)
                except BatchTooLargeError as error:
                    piece = pieces.throw(error)
                else:
                    piece = pieces.send(answer)
        except StopIteration as done:
            return self._checked(done.value)

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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()


def _made(cls: type[_AnyClient], made_of: dict[str, Any]) -> _AnyClient:
    return cls(made_of.pop("url"), **made_of)


def _urls(url: object) -> tuple[str, ...]:
    urls = tuple(url) if isinstance(url, Iterable) and not isinstance(url, str) else (url,)
    if not urls:
        raise ClientUsageError("there is no address; name at least one")
    begin = (
        f"a client's URL begins with one of {', '.join((*_SERVICES, *_STORES))}; "
        "of services it may have several, of stores one"
    )
    for each in urls:
        if not isinstance(each, str):
            raise ClientUsageError(f"{begin}; it is a str, not a {type(each).__name__}")
    texts = tuple(map(str, urls))
    if len(texts) > 1 or not texts[0].startswith(_STORES):
        for each in texts:
            if not each.lower().startswith(_SERVICES):
                raise ClientUsageError(begin)
    return texts


def _lock_of(lock: object) -> Lock | None:
    if lock is None or isinstance(lock, Lock):
        return lock
    is_path = isinstance(lock, str | os.PathLike) and bool(os.fspath(lock))
    _check("lock", lock, is_path, "the path of a file that `gkc lock` wrote, a Lock or None")
    return Lock.read(Path(cast("os.PathLike[str]", lock)))


def _is_seconds(value: object) -> bool:
    return isinstance(value, Real) and 0 < float(value) < math.inf


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, Integral) and int(value) >= least


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


def _check(name: str, value: object, is_right: bool, expected: str) -> None:
    if not is_right:
        raise ClientUsageError(f"{name}={value!r} must be {expected}")


def _in_pieces(pieces: Sequence[Question]) -> Pieces:
    """Ask the pieces one after the other; those of another generation than the last, once more."""
    answers: list[Knowledge] = []
    for piece in pieces:
        answer = yield piece
        answers.append(answer)
    if len(answers) == 1:
        return answers[0]
    latest = {v: generation for answer in answers for v, generation in answer.versions.items()}
    for place, piece in enumerate(pieces):
        if not answers[place].versions.items() <= latest.items():
            answers[place] = yield piece
            _check_generations(answers[place], latest)
    return _joined(answers, latest)


def _check_generations(answer: Knowledge, latest: Mapping[str, str]) -> None:
    for version, generation in answer.versions.items():
        if generation != latest[version]:
            raise GenerationChangedError(version, latest[version], generation)


def _joined(answers: Sequence[Knowledge], versions: Mapping[str, str]) -> Knowledge:
    return Knowledge(
        np.concatenate([answer.rows for answer in answers]),
        np.concatenate([answer.status for answer in answers]),
        answers[-1].parts,
        versions,
        {version: entry for answer in answers for version, entry in answer.described.items()},
    )
