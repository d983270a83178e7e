"""A service as a source of knowledge for the tasks of an event loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any

from gkc.center.question import Question
from gkc.client.knowledge import Knowledge
from gkc.client.options import Options
from gkc.client.service_address import Address
from gkc.client.service_asking import Asking, Attempt, Service
from gkc.client.service_connection import READ, Connection, Response
from gkc.client.service_conversation import Conversation
from gkc.client.service_messages import Request, knowledge_request
from gkc.errors import ClientUsageError, DeadlineExceededError


class AsyncHttpSource:
    """A service for the tasks of one event loop."""

    def __init__(self, options: Options) -> None:
        self.shown = ", ".join(options.urls)
        self._service = Service(options)
        self._conversation = Conversation()
        self._listings: dict[Address, _Listing] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._awaited: dict[Connection, _Awaited] = {}

    async def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        question = self._conversation.as_sent(question)
        response = await self._exchange(knowledge_request(question), deadline)
        answer, is_known = self._conversation.understand(question, response)
        if not is_known:
            list_again = partial(self._list_again, deadline, response.address)
            await self._conversation.look_up(
                answer.versions, response.address, deadline, list_again, asyncio.sleep
            )
        return self._conversation.described(answer, response.address)

    async def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        return await self._conversation.list(partial(self._exchange, deadline=deadline))

    async def close(self) -> None:
        """Close the connections."""
        self._service.close()

    async def _list_again(self, deadline: float, at: Address) -> None:
        """Have an address list the versions, once for all tasks that wait for it meanwhile."""
        listing = self._listings.setdefault(at, _Listing())
        before = listing.count
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await listing.lock.acquire()
        except TimeoutError:
            raise DeadlineExceededError(
                at.url, self._service.options.timeout, "waiting for its GET /versions"
            ) from None
        try:
            if listing.count == before:
                await self._conversation.list(partial(self._exchange, deadline=deadline, at=at))
                listing.count += 1
        finally:
            listing.lock.release()

    async def _exchange(
        self, request: Request, deadline: float, at: Address | None = None
    ) -> Response:
        loop = self._enter()
        for address in self._service.addresses.unresolved():
            await self._resolve(loop, address, deadline)
        asking = Asking(self._service, request, deadline, at)
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
            self._service = self._service.anew()
            self._loop = None
            self._listings = {}
            self._awaited = {}
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientUsageError(ClientUsageError.OTHER_LOOP)
        return loop

    async def _resolve(
        self, loop: asyncio.AbstractEventLoop, address: Address, deadline: float
    ) -> None:
        if _is_number(address.host):
            address.resolve()
            return
        looking_up = loop.run_in_executor(None, address.resolve)
        try:
            await asyncio.wait_for(looking_up, deadline - monotonic())
        except TimeoutError:
            raise DeadlineExceededError(
                address.url, self._service.options.timeout, "looking up its name"
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
        add, remove = loop.add_writer, loop.remove_writer
        if event == READ:
            add, remove = loop.add_reader, loop.remove_reader
        process = self._service.process

        def unwatch() -> None:
            # A child shares the loop's epoll with its parent, which goes on watching.
            if os.getpid() == process and not loop.is_closed():
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


@dataclass(slots=True, eq=False)
class _Listing:
    """How often an address has told which versions there are, and who asks it now."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    count: int = 0


@dataclass(slots=True, eq=False)
class _Awaited:
    """An attempt, and what wakes the task that awaits it."""

    asking: Asking
    attempt: Attempt
    over: asyncio.Future[None]

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
        ip_address(host)
    except ValueError:
        return False
    return True
