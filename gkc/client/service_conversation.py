"""What is said to a service and understood, without a word on how it travels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final

from msgspec.structs import replace

from gkc.center.question import Question
from gkc.client.knowledge import Knowledge
from gkc.client.service_address import Address
from gkc.client.service_connection import Response
from gkc.client.service_factored import is_worthwhile
from gkc.client.service_messages import VERSIONS_REQUEST, Request, read_answer, read_versions
from gkc.errors import ServiceError

_LISTED_WITHIN_SECONDS: Final = 1.0
"""A worker reads the catalogue several times a second; so late may it know a new generation."""
_LOOK_AGAIN_SECONDS: Final = 0.05

Ask = Callable[[Request], Awaitable[Response]]


class Conversation:
    """What one client knows of a service, and how it asks."""

    def __init__(self) -> None:
        self._current: Mapping[str, Mapping[str, Any]] = {}
        self._described: Mapping[tuple[str, str], Mapping[str, Any] | None] = {}

    def as_sent(self, question: Question) -> Question:
        """Return a question in the layout that takes fewer bytes."""
        versions = question.columns.versions
        entry = self._current.get(versions[0]) if len(versions) == 1 else None
        if entry is None or not is_worthwhile(question, entry):
            return question
        return replace(question, layout="factored")

    def understand(self, question: Question, response: Response) -> tuple[Knowledge, bool]:
        """Read the answer to a question; tell whether its generations were met before."""
        try:
            answer = read_answer(question, response)
        except ServiceError:
            response.address.failed()
            raise
        response.address.succeeded()
        return answer, answer.versions.items() <= self._described.keys()

    def described(self, answer: Knowledge, answered: Address) -> Knowledge:
        """Return an answer with what is known of its generations.

        Raises
        ------
        ServiceError
            If it is not as wide as they are.
        """
        described = {}
        for pair in answer.versions.items():
            if entry := self._described.get(pair):
                described[pair[0]] = entry
                for part, (start, end) in answer.parts.items():
                    width = entry["category_dim" if part == "user_category" else "dim"]
                    if end - start != width:
                        answered.failed()
                        raise ServiceError(
                            answered.url,
                            f"its {part} is {end - start} wide, but its GET /versions tells "
                            f"{width} of generation {pair[1]} of version {pair[0]!r}",
                        )
        answer.described = described
        return answer

    async def list(self, ask: Ask) -> dict[str, Any]:
        """Ask which versions there are."""
        response = await ask(VERSIONS_REQUEST)
        try:
            listed = read_versions(response)
        except ServiceError:
            response.address.failed()
            raise
        current = {entry["version"]: entry for entry in listed["versions"]}
        described: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        for version, entry in current.items():
            described[version, entry["generation"]] = entry
            if entry.get("previous"):
                former = version, entry["previous"]
                described[former] = self._described.get(former)
        self._current, self._described = current, described
        return listed

    async def look_up(
        self,
        versions: Mapping[str, str],
        answered: Address,
        deadline: float,
        list_again: Callable[[], Awaitable[object]],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        """Find the generations in the list of versions; another worker may know them a bit later.

        ``list_again`` has the versions listed once more, or waits while somebody else does.

        Raises
        ------
        ServiceError
            If one is neither current nor previous.
        """
        limit = deadline
        while True:
            await list_again()
            # The first one may have begun for somebody else, before these generations were there.
            limit = min(limit, monotonic() + _LISTED_WITHIN_SECONDS)
            foreign = [pair for pair in versions.items() if pair not in self._described]
            if not foreign:
                return
            if monotonic() + _LOOK_AGAIN_SECONDS >= limit:
                version, generation = foreign[0]
                answered.failed()
                raise ServiceError(
                    answered.url,
                    f"it answers from generation {generation} of version {version!r}, "
                    "which its GET /versions does not know",
                )
            await pause(_LOOK_AGAIN_SECONDS)
