"""What is served is read again and again, slowly, so that damage is found while it is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog

from gkc.answering.counting import Counting
from gkc.answering.reader import GuardedReader
from gkc.center.generation import LoadedGeneration
from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.store import ItemTable

log = structlog.get_logger(__name__)

_PIECE_PAUSE_SECONDS: Final = 0.25
"""After each megabyte: four a second."""
_PAUSE_SECONDS: Final = 1.0
_END: Final = object()

Served = Callable[[], Mapping[str, LoadedGeneration]]
Withdraw = Callable[[str, LoadedGeneration], None]


class Scrubbing:
    """Re-reads what is mapped of each generation that is served.

    Parameters
    ----------
    reader : GuardedReader
    counting : Counting
    served : callable
        Returns the generation that answers for each version at this moment.
    withdraw : callable
        Given a version and its generation that is damaged.
    """

    def __init__(
        self, reader: GuardedReader, counting: Counting, served: Served, withdraw: Withdraw
    ) -> None:
        self._reader = reader
        self._counting = counting
        self._served = served
        self._withdraw = withdraw

    async def run(self) -> None:
        """Go on until cancelled."""
        await asyncio.gather(self._read_all(), self._watch())

    async def _read_all(self) -> None:
        """Read everything, slowly."""
        while True:
            for version in list(self._served()):
                await self._check(version, self._reader.scrub, _PIECE_PAUSE_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self) -> None:
        """Read at once what somebody wrote to: nobody should."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            for version in list(self._served()):
                await self._check(version, self._if_changed, 0)

    def _if_changed(self, items: ItemTable) -> Iterator[None]:
        if self._reader.has_changed(items):
            yield from self._reader.scrub(items)

    async def _check(
        self, version: str, scrub: Callable[[ItemTable], Iterator[None]], pause_seconds: float
    ) -> None:
        """Read what answers for a version, which nothing here holds for longer than it answers."""
        loaded = self._served().get(version)
        if loaded is None:
            return
        generation, pieces = loaded.manifest.generation, scrub(loaded.items)
        try:
            while await asyncio.to_thread(next, pieces, _END) is not _END:
                await asyncio.sleep(pause_seconds)
                if self._served().get(version) is not loaded:
                    return
        except GenerationNotFoundError:
            return  # it is served no longer
        except GenerationCorruptError as exc:
            if self._served().get(version) is not loaded:
                return  # that is known
            self._counting.store_error("scrub")
            log.error("generation_damaged", version=version, generation=generation, reason=exc.what)
            self._withdraw(version, loaded)
        except Exception as exc:  # the outermost loop: it goes on, whatever happens
            log.warning("generation_not_scrubbed", generation=generation, exc_info=exc)
