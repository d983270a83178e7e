"""A question → its answer: plan, read users, lay rows; again if a generation is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from msgspec.structs import replace

from gkc.answering.counting import Counting, DamageCount, NoCounting
from gkc.answering.eager import EagerCoroutine
from gkc.answering.serving import Serving
from gkc.answering.turns import Turns
from gkc.answering.user_cache import UserReader
from gkc.center.generation import LoadedGeneration
from gkc.center.plan import Plan, Records, VersionPlan
from gkc.center.question import Answer, Question
from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.rows import row_form

log = structlog.get_logger(__name__)

_NOBODY: Final = NoCounting()
_LONG_ROWS: Final = 1_000
"""So many take long enough to be laid for others to have their turn before."""


class Answering:
    """Answers questions from whatever is served at that moment.

    Parameters
    ----------
    serving : Serving
    reader : UserReader
        Where the users' records are.
    counting : Counting, optional
        Is told of damage that the reader did not see.

    Attributes
    ----------
    turns : Turns
        Whose answer is long pauses there.
    """

    def __init__(self, serving: Serving, reader: UserReader, counting: Counting = _NOBODY) -> None:
        self._serving = serving
        self._reader = reader
        self._damaged_users = DamageCount(counting, "fetch_users")
        self._damaged_items = DamageCount(counting, "item_table")
        self.turns = Turns()
        self._reading = 0
        self._was_alone = False

    async def answer(self, question: Question) -> Answer:
        """Answer a question; all rows that name one version come from one generation.

        While the store is away, what is held here answers, if it is not older than allowed: all of
        the question or nothing. If data of a generation turns out to be gone, the catalogue is
        re-read, and if it names another generation by now, the whole question is answered from that
        one; so is it if that one is gone as well.

        Raises
        ------
        VersionNotFoundError, VersionNotReadyError, CatalogueLostError
            If a version cannot be answered.
        InvalidFieldsError
            If the versions' widths differ, or a part might not stay finite in the answer's type.
        StoreUnavailableError, GenerationNotFoundError, GenerationCorruptError
            If the store fails, or lost data; or is away, and not all that is asked is held here.
        """
        versions = question.columns.versions
        generations = await self._serving.resolve(versions)
        age = self._serving.watch.age(question.allow_stale)
        while True:
            try:
                answer = await self._answer_from(question, generations)
            except (GenerationNotFoundError, GenerationCorruptError) as exc:
                current = await self._serving.resolve_anew(versions)
                if _ids(current, versions) == _ids(generations, versions):
                    raise
                log.info("generation_gone", generation=exc.generation)
                generations, age = current, None
            else:
                return answer if age is None else replace(answer, age=age)

    def numbers(self, question: Question) -> int:
        """Return how many numbers the rows of an answer have; 0 if its version is not here yet."""
        columns = question.columns
        generation = self._serving.loaded.get(columns.versions[0])
        if generation is None:
            return 0
        spec = generation.manifest.spec
        form = row_form(question.parts, spec.dim, spec.category_dim, question.dtype)
        return columns.n * form.width

    async def _answer_from(
        self, question: Question, generations: Mapping[str, LoadedGeneration]
    ) -> Answer:
        with self._damaged_items:
            plan = Plan(question, generations)
        if plan.is_large:
            return await self._answer_by_portions(plan)
        records = await self._fetch(plan)
        with self._damaged_users:
            plan.take(records)
        if question.columns.n > _LONG_ROWS:
            await self.turns.pause()
        with self._damaged_items:
            for _ in plan.lay():
                await self.turns.pause()
        return plan.answer

    async def _answer_by_portions(self, plan: Plan) -> Answer:
        """Answer what needs many bytes of records: some of them are read and laid at a time."""
        for portion, lay in plan.portions():
            records = await self._read(portion)
            with self._damaged_users:
                portion.take(records)
            with self._damaged_items:
                for _ in lay():
                    await self.turns.pause()
            await self.turns.pause()  # a store of files does not wait
        return plan.answer

    async def _fetch(self, plan: Plan) -> Sequence[Records]:
        """Read the users' records; look items up meanwhile if nobody else is here.

        Where requests overlap, the others' go on while the store reads, and items come after it:
        reads in one turn of the loop are one message to the store. Requests count as coming one at
        a time when two in a row found nobody reading (why: docs/decisions/0016-idle-waits.md).
        """
        is_alone = not self._reading
        one_at_a_time, self._was_alone = is_alone and self._was_alone, is_alone
        self._reading += 1
        try:
            if not one_at_a_time:
                return await self.read(plan.versions)
            records = EagerCoroutine(self.read(plan.versions))
            try:
                if not records.is_done:
                    await asyncio.sleep(0)  # the reads leave when this turn of the loop ends
                    with self._damaged_items:
                        plan.find_items()
                return await records
            finally:
                records.drop()
        finally:
            self._reading -= 1

    async def read(self, versions: Sequence[VersionPlan]) -> Sequence[Records]:
        """Read the records of each version's users, from the store."""
        if len(versions) == 1:  # the usual question
            return [await self._read(versions[0])]
        return await asyncio.gather(*map(self._read, versions))

    async def _read(self, version: VersionPlan) -> Records:
        if not len(version.users):
            return ()
        return await self._reader.fetch_users(version.manifest, version.users)


def _ids(generations: Mapping[str, LoadedGeneration], versions: Sequence[str]) -> list[str]:
    return [generations[version].manifest.generation for version in versions]
