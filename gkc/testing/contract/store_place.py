"""Where the contract's stores are, and the fixtures that all of its tests have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import NamedTuple, Protocol

import pytest

from gkc.store import GenerationManifest, KnowledgeReader, Publisher, Storage
from gkc.strings import Ids, IdType
from gkc.testing.samples import Sample, current_manifest, make_sample, publish_sample


class StorePlace(Protocol):
    """One empty store and namespace, seen from both sides."""

    url: str
    namespace: str

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        """Open the store under test; another namespace of it, if one is given."""
        ...

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        """Return all keys or files of a generation, by name, as they lie in the storage."""
        ...

    def put_back(self, data: Mapping[str, bytes]) -> None:
        """Write what `data_of` returned, as a writer would that was taken for dead."""
        ...

    def lose_user(self, generation: str, user: Ids) -> None:
        """Delete the bucket or file that holds a user, a column of one."""
        ...

    def lose_item(self, generation: str, item: Ids) -> None:
        """Delete the block or file that holds an item, a column of one."""
        ...

    def lose_manifest(self, generation: str) -> None:
        """Delete a generation's manifest."""
        ...

    def flip_user_byte(self, generation: str, user: Ids) -> None:
        """Change one bit of what is stored of a user, a column of one."""
        ...

    def flip_item_byte(self, generation: str, item: Ids) -> None:
        """Change one bit of what is stored of an item, a column of one."""
        ...

    def set_catalogue(self, raw: bytes | None) -> None:
        """Overwrite the catalogue, or delete it."""
        ...


class Served(NamedTuple):
    """A sample, and the manifest of the generation that it is served as."""

    sample: Sample
    manifest: GenerationManifest


class StoreFixtures:
    """What the tests of a store are given; a subclass overrides `place`."""

    @pytest.fixture
    def place(self) -> StorePlace:
        raise NotImplementedError

    @pytest.fixture
    def storage(self, place: StorePlace) -> Iterator[Storage]:
        storage, _ = place.open_pair()
        yield storage
        storage.close()

    @pytest.fixture
    def publisher(self, storage: Storage) -> Publisher:
        return Publisher(storage)

    @pytest.fixture
    def second_publisher(self, place: StorePlace) -> Iterator[Publisher]:
        storage, _ = place.open_pair()
        publisher = Publisher(storage)
        yield publisher
        publisher.close()

    @pytest.fixture
    async def reader(self, place: StorePlace) -> AsyncIterator[KnowledgeReader]:
        _, reader = place.open_pair()
        yield reader
        await reader.close()

    @pytest.fixture(params=["int64", "string"])
    def id_type(self, request: pytest.FixtureRequest) -> IdType:
        id_type: IdType = request.param
        return id_type

    @pytest.fixture
    async def served(
        self, publisher: Publisher, reader: KnowledgeReader, id_type: IdType
    ) -> Served:
        sample = make_sample(id_type=id_type)
        publish_sample(publisher, sample)
        return Served(sample, await current_manifest(reader, "v1"))
