"""A service as a source of knowledge, over HTTP: one that waits, and one for an event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Generator, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, Final, TypeVar

from gkc.center.question import Question
from gkc.client.knowledge import Knowledge
from gkc.client.service_address import Address
from gkc.client.service_asking import Asking, Attempt, Options, Service
from gkc.client.service_connection import READ, Connection, Response, wait_for
from gkc.client.service_factored import Widths, is_worthwhile
from gkc.client.service_messages import (
    VERSIONS_REQUEST,
    Answer,
    Request,
    knowledge_request,
    read_answer,
    read_versions,
)
from gkc.errors import ClientUsageError, DeadlineExceededError, ServiceError

_LISTED_WITHIN_SECONDS: Final = 1.0
"""A worker reads the catalogue several times a second; so late may it know a new generation."""
_LOOK_AGAIN_SECONDS: Final = 0.05

T = TypeVar("T")
Talk = Generator[Request | float, Response, T]
"""Yields what to send, or how long to pause; returns a T."""


class Conversation:
    """What is said to a service and understood, without a word on how it travels."""

    def __init__(self) -> None:
        self._described: Mapping[tuple[str, str], Mapping[str, Any] | None] = {}
        self._widths: Mapping[str, Widths] = {}

    def as_sent(self, question: Question) -> Question:
        """Return a question in the layout that takes fewer bytes."""
        versions = question.columns.versions
        widths = self._widths.get(versions[0]) if len(versions) == 1 else None
        if widths is None or not is_worthwhile(question, widths):
            return question
        return Question(question.columns, question.parts, question.dtype, "factored")

    def understand(self, question: Question, response: Response) -> tuple[Answer, bool]:
        """Read the answer to a question; tell whether its generations were met before."""
        try:
            answer = read_answer(question, response)
        except ServiceError:
            response.address.failed()
            raise
        response.address.succeeded()
        return answer, answer.versions.items() <= self._described.keys()

    def knowledge(self, answer: Answer) -> Knowledge:
        """Return an answer with what is known of its generations."""
        described = {
            version: entry
            for version, generation in answer.versions.items()
            if (entry := self._described.get((version, generation)))
        }
        return Knowledge(answer.rows, answer.status, answer.parts, answer.versions, described)

    def list(self) -> Talk[dict[str, Any]]:
        """Ask which versions there are."""
        listed = read_versions((yield VERSIONS_REQUEST))
        described: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        for entry in listed["versions"]:
            version = entry["version"]
            described[version, entry["generation"]] = entry
            if entry.get("previous"):
                former = version, entry["previous"]
                described[former] = self._described.get(former)
        self._described = described
        self._widths = {
            entry["version"]: Widths(
                entry["dim"], entry["category_dim"], 2 if entry["dtype"] == "f16" else 4
            )
            for entry in listed["versions"]
        }
        return listed

    def look_up(
        self, versions: Mapping[str, str], answered: Address, deadline: float
    ) -> Talk[None]:
        """Find the generations in the list of versions; another worker may know them a bit later.

        Raises
        ------
        ServiceError
            If one is neither current nor previous.
        """
        deadline = min(deadline, monotonic() + _LISTED_WITHIN_SECONDS)
        while True:
            yield from self.list()
            foreign = [pair for pair in versions.items() if pair not in self._described]
            if not foreign:
                return
            if monotonic() + _LOOK_AGAIN_SECONDS >= deadline:
                version, generation = foreign[0]
                answered.failed()
                raise ServiceError(
                    answered.url,
                    f"it answers from generation {generation} of version {version!r}, "
                    "which its GET /versions does not know",
                )
            yield _LOOK_AGAIN_SECONDS


class HttpSource:
    """A service that the caller's thread waits for; for many threads at once.

    Parameters
    ----------
    urls : sequence of str
    options : Options
    """

    def __init__(self, urls: Sequence[str], options: Options) -> None:
        self._urls = urls
        self._options = options
        self._service = Service(urls, options)
        self._conversation = Conversation()

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        question = self._conversation.as_sent(question)
        response = self._exchange(knowledge_request(question), deadline)
        answer, is_known = self._conversation.understand(question, response)
        if not is_known:
            look_up = self._conversation.look_up(answer.versions, response.address, deadline)
            self._hold(look_up, deadline)
        return self._conversation.knowledge(answer)

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        return self._hold(self._conversation.list(), deadline)

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _hold(self, talk: Talk[T], deadline: float) -> T:
        try:
            said = next(talk)
            while True:
                if isinstance(said, Request):
                    said = talk.send(self._exchange(said, deadline))
                else:
                    sleep(said)
                    said = next(talk)
        except StopIteration as done:
            result: T = done.value
            return result

    def _exchange(self, request: Request, deadline: float) -> Response:
        service = self._service
        if service.process != os.getpid():
            service = self._service = _anew(service, self._urls)
        for address in service.addresses.unresolved():
            address.resolve()
        asking = Asking(service, request, deadline)
        try:
            asking.begin()
            while asking.outcome is None:
                _wait(asking)
        finally:
            asking.close()
        return asking.result()


def _wait(asking: Asking) -> None:
    """Wait until something can be done, and do it."""
    awaited = {attempt.connection: attempt for attempt in asking.running}
    events = [(connection, attempt.awaits) for connection, attempt in awaited.items()]
    for connection in wait_for(events, asking.wake_at - monotonic()):
        if asking.outcome is None:
            asking.advance(awaited[connection])
    if asking.outcome is None:
        asking.tick()


def _anew(inherited: Service, urls: Sequence[str]) -> Service:
    """Return what a child opens anew after a fork."""
    inherited.abandon()
    return Service(urls, inherited.options)


class AsyncHttpSource:
    """A service for the tasks of one event loop.

    Parameters
    ----------
    urls : sequence of str
    options : Options
    """

    def __init__(self, urls: Sequence[str], options: Options) -> None:
        self._urls = urls
        self._options = options
        self._service = Service(urls, options)
        self._conversation = Conversation()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awaited: dict[Connection, _Awaited] = {}

    async def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        question = self._conversation.as_sent(question)
        response = await self._exchange(knowledge_request(question), deadline)
        answer, is_known = self._conversation.understand(question, response)
        if not is_known:
            look_up = self._conversation.look_up(answer.versions, response.address, deadline)
            await self._hold(look_up, deadline)
        return self._conversation.knowledge(answer)

    async def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        return await self._hold(self._conversation.list(), deadline)

    async def close(self) -> None:
        """Close the connections."""
        self._service.close()

    async def _hold(self, talk: Talk[T], deadline: float) -> T:
        try:
            said = next(talk)
            while True:
                if isinstance(said, Request):
                    said = talk.send(await self._exchange(said, deadline))
                else:
                    await asyncio.sleep(said)
                    said = next(talk)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _exchange(self, request: Request, deadline: float) -> Response:
        loop = self._enter()
        await self._resolve(loop, deadline)
        asking = Asking(self._service, request, deadline)
        try:
            asking.begin()
            while asking.outcome is None:
                await self._wait(loop, asking)
        finally:
            asking.close()
        return asking.result()

    def _enter(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which must always be the same in one process."""
        loop = asyncio.get_running_loop()
        if self._service.process != os.getpid():
            self._service = _anew(self._service, self._urls)
            self._loop = None
            self._awaited = {}
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientUsageError(
                "this AsyncClient belongs to another event loop; make one in each loop"
            )
        return loop

    async def _resolve(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        for address in self._service.addresses.unresolved():
            if _is_number(address.host):
                address.resolve()
                continue
            looking_up = loop.run_in_executor(None, address.resolve)
            try:
                await asyncio.wait_for(looking_up, deadline - monotonic())
            except TimeoutError:
                raise DeadlineExceededError(
                    address.url, self._options.timeout, "looking up its name"
                ) from None

    async def _wait(self, loop: asyncio.AbstractEventLoop, asking: Asking) -> None:
        """Wait until an attempt is over or it is time for something."""
        over = loop.create_future()
        awaited = [_Awaited(asking, attempt, over) for attempt in asking.running]
        for each in awaited:
            self._awaited[each.attempt.connection] = each
            self._watch(loop, each)
        timer = loop.call_later(max(0.0, asking.wake_at - monotonic()), _wake, over)
        try:
            await over
        finally:
            timer.cancel()
            for each in awaited:
                self._forget(each)
        if asking.outcome is None:
            asking.tick()

    def _watch(self, loop: asyncio.AbstractEventLoop, awaited: _Awaited) -> None:
        """Have the loop say when a connection is ready; between requests it stays watched."""
        connection, event = awaited.attempt.connection, awaited.attempt.awaits
        if connection.watched == event:
            return
        if connection.unwatch is not None:
            connection.unwatch()
        descriptor = connection.opened.fileno()
        is_read = event == READ
        add, remove = (
            (loop.add_reader, loop.remove_reader)
            if is_read
            else (loop.add_writer, loop.remove_writer)
        )

        def unwatch() -> None:
            remove(descriptor)
            connection.watched = 0
            connection.unwatch = None

        add(descriptor, self._ready, loop, connection)
        connection.watched = event
        connection.unwatch = unwatch

    def _ready(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        awaited = self._awaited.get(connection)
        if awaited is None:  # nothing was asked: the service has closed it
            connection.address.drop(connection)
        elif awaited.advance():
            self._forget(awaited)
            _wake(awaited.over)
        else:
            self._watch(loop, awaited)

    def _forget(self, awaited: _Awaited) -> None:
        if self._awaited.get(awaited.attempt.connection) is awaited:
            del self._awaited[awaited.attempt.connection]


class _Awaited:
    """An attempt, and what wakes the task that awaits it."""

    __slots__ = ("asking", "attempt", "over")

    def __init__(self, asking: Asking, attempt: Attempt, over: asyncio.Future[None]) -> None:
        self.asking = asking
        self.attempt = attempt
        self.over = over

    def advance(self) -> bool:
        """Go on; tell whether the attempt is over."""
        try:
            self.asking.advance(self.attempt)
        except Exception as error:  # noqa: BLE001 - from a callback of the loop to the task's caller
            if not self.over.done():
                self.over.set_exception(error)
        return self.attempt not in self.asking.running


def _wake(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _is_number(host: str) -> bool:
    """Tell whether a host is an address already, so that nobody has to be asked for it."""
    try:
        socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
    except OSError:
        return False
    return True
