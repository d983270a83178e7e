"""Reads of one generation's keys, for an event loop: answers that are none become errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from gkc.errors import GenerationCorruptError, StoreError
from gkc.store.backends.redis.client import Command, is_wrong_type
from gkc.store.backends.redis.faults import unavailable
from gkc.store.backends.redis.layout import GenerationKeys, catalogue_key
from gkc.store.backends.redis.pipe import ReadPipe
from gkc.store.catalogue import missing, read_catalogue


class GenerationReads:
    """Reads what lies in Redis of one generation.

    Parameters
    ----------
    pipe : ReadPipe
    store : str
        The store's URL, for messages.
    namespace, generation : str

    Attributes
    ----------
    keys : GenerationKeys
    """

    def __init__(self, pipe: ReadPipe, store: str, namespace: str, generation: str) -> None:
        self._pipe = pipe
        self._store = store
        self._namespace = namespace
        self._generation = generation
        self.keys = GenerationKeys(namespace, generation)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers to some commands.

        Raises
        ------
        GenerationCorruptError
            If a key is of another type.
        StoreUnavailableError
            If the server refuses a command, or does not answer.
        """
        if not commands:
            return []
        try:
            answers = await self._pipe.run(commands)
        except (redis.RedisError, OSError) as exc:
            raise unavailable(exc, self._store) from exc
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, redis.ResponseError):
                if is_wrong_type(answer):
                    what = f"key {command[1]!s} holds another type"
                    raise GenerationCorruptError(self._generation, what) from answer
                raise unavailable(answer, self._store) from answer
        return answers

    async def missing(self, what: str) -> StoreError:
        """Return the error for missing data: damage, unless the generation was deleted."""
        catalogue, manifest = await self.run(
            [("GET", catalogue_key(self._namespace)), ("EXISTS", self.keys.manifest)]
        )
        stored = read_catalogue(catalogue, self._store)
        return missing(self._generation, what, stored, bool(manifest))
