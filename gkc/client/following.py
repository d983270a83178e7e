"""A store followed in the caller's process: its questions wait until what they name is loaded."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec.structs import asdict
from pydantic import ValidationError

from gkc.answering.answering import Answering
from gkc.answering.counting import NoCounting
from gkc.answering.reader import GuardedReader
from gkc.answering.serving import Serving
from gkc.center.listing import version_list
from gkc.center.plan import Plan, Records, VersionPlan
from gkc.center.question import Answer, Question, RowsAnswer
from gkc.client.knowledge import Knowledge
from gkc.errors import (
    ClientUsageError,
    DeadlineExceededError,
    StoreUnavailableError,
    VersionNotFoundError,
    VersionNotReadyError,
)
from gkc.logs import log_as_the_caller_does
from gkc.settings import FollowingSettings, refusals
from gkc.store import open_reader, parse_store_url

_MEBIBYTE: Final = 1024 * 1024


def settings_of(
    url: str, namespace: str | None, mirror_dir: str | os.PathLike[str] | None
) -> FollowingSettings:
    """Build the settings of a client: its arguments, then the environment, then defaults.

    Raises
    ------
    StoreUrlError
        If the URL names no store.
    ClientUsageError
        If an argument or a variable is refused; names it.
    """
    parse_store_url(url)
    options: dict[str, Any] = {"store_url": url, "namespace": namespace, "mirror_dir": mirror_dir}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return FollowingSettings(**given)
    except ValidationError as exc:
        raise ClientUsageError(refusals(exc, given)) from exc


class FollowedStore:
    """Answers questions from a store whose catalogue it follows, on the loop that it is made on.

    Parameters
    ----------
    settings : FollowingSettings
    timeout : float
        The seconds that its callers allow for a whole call, to be told of.
    """

    def __init__(self, settings: FollowingSettings, timeout: float) -> None:
        self._timeout = timeout
        log_as_the_caller_does()
        self._where = parse_store_url(settings.store_url)
        opened = open_reader(
            settings.store_url,
            settings.namespace,
            mirror_dir=settings.mirror_dir,
            timeout_ms=settings.store_timeout_ms,
        )
        timeout_seconds = settings.store_timeout_ms / 1000
        self._reader = GuardedReader(opened, NoCounting(), timeout_seconds, settings.stale_seconds)
        self._serving = Serving(
            self._reader,
            NoCounting(),
            item_memory_bytes=settings.item_memory_mb * _MEBIBYTE,
            refresh_seconds=settings.refresh_ms / 1000,
            load_wait_seconds=None,
        )
        self._answering = Answering(self._serving, self._reader)
        self._described: Mapping[str, Mapping[str, Any]] = {}
        self._following = asyncio.create_task(self._serving.follow())

    async def answer(self, question: Question, deadline: float) -> Answer:
        """Answer a question of layout ``rows``, once all that it names is loaded.

        Parameters
        ----------
        question : Question
        deadline : float
            Of the monotonic clock.

        Raises
        ------
        VersionNotReadyError
            If a version was not loaded by the deadline; says why, if that was tried.
        DeadlineExceededError
            If something else took longer.
        StoreUnavailableError
            If the store does not answer, or is a directory that is not there.
        VersionNotFoundError, CatalogueLostError, InvalidFieldsError, GenerationNotFoundError, \
GenerationCorruptError
            As a service says.
        """
        versions = question.columns.versions
        is_loading = False
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while True:
                    try:
                        return await self._answering.answer(question)
                    except VersionNotReadyError:
                        is_loading = True
                        await self._serving.wait_for_loads(versions)
        except TimeoutError as exc:
            if is_loading:
                self._serving.check_loaded(versions)
            raise self.late() from exc
        except VersionNotFoundError:
            self._check_there()
            raise

    def plan(self, question: Question) -> Plan | None:
        """Plan a question from what is loaded at this moment, None if that is not all of it.

        Nor while the catalogue cannot be read: it may be too old. For any thread.

        Raises
        ------
        InvalidFieldsError
            If it cannot be answered as asked.
        """
        loaded = self._serving.loaded
        if self._serving.watch.failure or not all(
            version in loaded for version in question.columns.versions
        ):
            return None
        return Plan(question, loaded)

    async def read(self, versions: Sequence[VersionPlan]) -> Sequence[Records]:
        """Read the records that a plan asks for."""
        return await self._answering.read(versions)

    def knowledge(self, answer: Answer) -> Knowledge:
        """Return an answer in the form that callers get, described as far as it is still served."""
        assert isinstance(answer, RowsAnswer)
        described = {
            version: told
            for version, generation in answer.versions.items()
            if (told := self._description(version, generation))
        }
        parts = {str(part): span for part, span in answer.spans.items()}
        return Knowledge(
            answer.knowledge, answer.status, parts, answer.versions, described, answer.age
        )

    def _description(self, version: str, generation: str) -> Mapping[str, Any] | None:
        """Return what is told of a generation, None if it is no longer served."""
        if generation not in self._described:
            loaded = self._serving.loaded
            if version not in loaded or loaded[version].manifest.generation != generation:
                return None
            manifest = loaded[version].manifest
            origin = {name: t for name, t in asdict(manifest.spec.origin).items() if t}
            told = {"generation": generation, "checksum": manifest.checksum, **origin}
            current = {of_version.manifest.generation for of_version in loaded.values()}
            kept = {g: d for g, d in self._described.items() if g in current}
            self._described = {**kept, generation: told}
        return self._described.get(generation)

    async def versions(self, deadline: float) -> dict[str, Any]:
        """Return what ``GET /versions`` answers, from a catalogue read now.

        Raises
        ------
        StoreUnavailableError, CatalogueLostError, DeadlineExceededError
        """
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._serving.refresh()
        except TimeoutError as exc:
            raise self.late() from exc
        catalogue = self._serving.catalogue()
        if catalogue is None:
            self._check_there()
        told: dict[str, Any] = msgspec.to_builtins(version_list(catalogue, self._serving.is_loaded))
        return told

    def late(self) -> DeadlineExceededError:
        """Return the error that says that a caller's seconds are over."""
        return DeadlineExceededError(self._where.shown, self._timeout)

    def _check_there(self) -> None:
        """Check that a ``file:`` store's directory exists: a misspelt path is no empty store."""
        if self._where.is_missing():
            remedy = "name the right one, or export into it"
            raise StoreUnavailableError(self._where.shown, "there is no such directory", remedy)

    async def close(self) -> None:
        """Stop following, and let go of tables and connections."""
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following
        await self._reader.close()
