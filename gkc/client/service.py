"""A service as a source of knowledge that the caller's thread waits for."""

from __future__ import annotations

import os
from functools import partial
from time import monotonic, sleep
from typing import Any

from gkc.center.question import Question
from gkc.client.blocking import awaitable, run_here
from gkc.client.knowledge import Knowledge
from gkc.client.options import Options
from gkc.client.service_address import Address
from gkc.client.service_asking import Asking, Service
from gkc.client.service_connection import Response, wait_for
from gkc.client.service_conversation import Conversation
from gkc.client.service_messages import Request, knowledge_request


class HttpSource:
    """A service that the caller's thread waits for; for many threads at once."""

    def __init__(self, options: Options) -> None:
        self.shown = ", ".join(options.urls)
        self._service = Service(options)
        self._conversation = Conversation()

    def knowledge(self, question: Question, deadline: float) -> Knowledge:
        """Answer a question by a deadline of the monotonic clock."""
        question = self._conversation.as_sent(question)
        response = self._exchange(knowledge_request(question), deadline)
        answer, is_known = self._conversation.understand(question, response)
        if not is_known:
            ask = awaitable(partial(self._exchange, deadline=deadline, at=response.address))
            list_again = partial(self._conversation.list, ask)
            run_here(
                self._conversation.look_up(
                    answer.versions, response.address, deadline, list_again, awaitable(sleep)
                )
            )
        return self._conversation.described(answer, response.address)

    def versions(self, deadline: float) -> dict[str, Any]:
        """Return the body of ``GET /versions``."""
        ask = awaitable(partial(self._exchange, deadline=deadline))
        return run_here(self._conversation.list(ask))

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

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
