"""The embedded store keeps the contract; below it, what only a directory of files can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from gkc.store import KnowledgeReader
from gkc.store.backends.file import FileReader, FileStorage
from gkc.store.protocol import Storage
from gkc.store.table import MappedItemTable, MappedUserTable
from tests.gkc.store.contract import StoreContract


class FilePlace:
    """An embedded store, and its files seen from outside."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"file:{directory}"
        self.namespace = "center"

    @property
    def root(self) -> Path:
        return self.directory / self.namespace

    def open_pair(self, namespace: str | None = None) -> tuple[Storage, KnowledgeReader]:
        name = namespace or self.namespace
        return FileStorage(self.directory, name), FileReader(self.directory, name)

    def data_of(self, generation: str) -> Mapping[str, bytes]:
        found = self.root.rglob("*")
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else b""
            for path in found
            if generation in str(path)
        }

    def put_back(self, data: Mapping[str, bytes]) -> None:
        for name, raw in sorted(data.items()):
            path = self.root / name
            if path.name in ("items.gkt", "users.gkt", "manifest.json"):
                path.write_bytes(raw)
            else:
                path.mkdir(parents=True, exist_ok=True)

    def file(self, generation: str, name: str) -> Path:
        return self.root / "generations" / generation / name

    def lose_user(self, generation: str, user: int) -> None:
        self.file(generation, "users.gkt").unlink()

    def lose_item(self, generation: str, item: int) -> None:
        self.file(generation, "items.gkt").unlink()

    def lose_manifest(self, generation: str) -> None:
        self.file(generation, "manifest.json").unlink()

    def flip_user_byte(self, generation: str, user: int) -> None:
        path = self.file(generation, "users.gkt")
        table = MappedUserTable(path, generation)
        start = table.header.sections["records"].offset
        table.close()
        flip(path, start + 1001)

    def flip_item_byte(self, generation: str, item: int) -> None:
        path = self.file(generation, "items.gkt")
        table = MappedItemTable(path, generation)
        start = table.header.sections["rows"].offset
        table.close()
        flip(path, start + 1001)

    def set_catalogue(self, raw: bytes | None) -> None:
        path = self.root / "catalogue.json"
        if raw is None:
            path.unlink()
        else:
            path.write_bytes(raw)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file, in place and past its read-only mode."""
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(raw)


@pytest.fixture
def place(tmp_path: Path) -> FilePlace:
    return FilePlace(tmp_path / "store")


class TestFileStore(StoreContract):
    """The contract, on files."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> FilePlace:
        return FilePlace(tmp_path / "store")
