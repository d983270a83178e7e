"""A service as a source of knowledge that the caller's thread waits for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

from gkc.center.question import Question
from gkc.client.knowledge import Knowledge
from gkc.client.service_address import Address
from gkc.client.service_asking import Asking, Options, Service
from gkc.client.service_connection import Response, wait_for
from gkc.client.service_conversation import Conversation, Talk
from gkc.client.service_messages import Request, knowledge_request

T = TypeVar("T")


class HttpSource:
    """A service that the caller's thread waits for; for many threads at once.

    Parameters
    ----------
    urls : sequence of str
    options : Options
    """

    def __init__(self, urls: Sequence[str], options: Options) -> None:
        self.shown = ", ".join(urls)
        self._service = Service(urls, options)
        self._conversation = Conversation()

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        question = self._conversation.as_sent(question)
        response = self._exchange(knowledge_request(question), deadline)
        answer, is_known = self._conversation.understand(question, response)
        if not is_known:
            look_up = self._conversation.look_up(answer.versions, response.address, deadline)
            self._hold(look_up, deadline, response.address)
        return self._conversation.knowledge(answer)

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        return self._hold(self._conversation.list(), deadline)

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def _hold(self, talk: Talk[T], deadline: float, at: Address | None = None) -> T:
        try:
            said = next(talk)
            while True:
                if isinstance(said, Request):
                    said = talk.send(self._exchange(said, deadline, at))
                else:
                    sleep(said)
                    said = next(talk)
        except StopIteration as done:
            result: T = done.value
            return result

    def _exchange(self, request: Request, deadline: float, at: Address | None = None) -> Response:
        service = self._service
        if service.process != os.getpid():
            service = self._service = service.anew()
        for address in service.addresses.unresolved():
            address.resolve()
        asking = Asking(service, request, deadline, at)
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
