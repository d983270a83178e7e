"""A decoded request → its answer: plan, then look up, once more if a generation was deleted."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from gkc.errors import GenerationCorruptError, GenerationNotFoundError
from gkc.service.loaded import LoadedGeneration
from gkc.service.lookup import KnowledgeLookup
from gkc.service.schemas import Answer, KnowledgeRequest
from gkc.service.serving import Serving

log = structlog.get_logger(__name__)


class Answering:
    """Answers requests from whatever is served at that moment.

    Parameters
    ----------
    serving : Serving
    lookup : KnowledgeLookup
    """

    def __init__(self, serving: Serving, lookup: KnowledgeLookup) -> None:
        self._serving = serving
        self._lookup = lookup

    async def answer(self, request: KnowledgeRequest) -> Answer:
        """Answer a request; all rows that name one version come from one generation.

        If data of a generation turns out to be gone, the catalogue is re-read, and if it names
        another generation by now, the whole request is answered from that one.

        Raises
        ------
        VersionNotFoundError, VersionNotReadyError, CatalogueLostError
            If a version cannot be answered.
        InvalidFieldsError
            If the versions' widths differ, or a part might not stay finite in the answer's type.
        StoreUnavailableError, GenerationNotFoundError, GenerationCorruptError
            If the store fails, or lost data.
        """
        versions = request.columns.versions
        generations = await self._serving.resolve(versions)
        try:
            return await self._lookup.answer(request, generations)
        except (GenerationNotFoundError, GenerationCorruptError) as exc:
            current = await self._serving.resolve_anew(versions)
            if _ids(current) == _ids(generations):
                raise
            log.info("generation_gone", generation=exc.generation)
        return await self._lookup.answer(request, current)


def _ids(generations: Mapping[str, LoadedGeneration]) -> dict[str, str]:
    return {version: loaded.manifest.generation for version, loaded in generations.items()}
