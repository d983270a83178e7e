"""What is said to a service and understood, without a word on how it travels."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

from gkc.center.question import Question
from gkc.client.knowledge import Knowledge
from gkc.client.service_address import Address
from gkc.client.service_connection import Response
from gkc.client.service_factored import Widths, is_worthwhile
from gkc.client.service_messages import (
    VERSIONS_REQUEST,
    Answer,
    Request,
    read_answer,
    read_versions,
)
from gkc.errors import ServiceError

_LISTED_WITHIN_SECONDS: Final = 1.0
"""A worker reads the catalogue several times a second; so late may it know a new generation."""
_LOOK_AGAIN_SECONDS: Final = 0.05

T = TypeVar("T")
Talk = Generator[Request | float, Response, T]
"""Yields what to send, or how long to pause; returns a T."""


class Conversation:
    """What one client knows of a service, and how it asks."""

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
        response = yield VERSIONS_REQUEST
        try:
            listed = read_versions(response)
        except ServiceError:
            response.address.failed()
            raise
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
