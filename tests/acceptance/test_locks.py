"""Ways in which vector spaces get mixed, each refused by a lock; real exports, real commands."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gkc import AsyncClient, Client
from gkc.client import Knowledge
from gkc.errors import ClientUsageError, LockMismatchError
from gkc.lock import Lock
from tests.commands import Place, service
from tests.exporter.bundles import STRING_IDS, Built, Recipe, build
from tests.in_process import command, done, export

SECONDS = 20.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


@pytest.fixture
def run(tmp_path: Path) -> Built:
    return build(tmp_path / "run", Recipe())


@pytest.fixture
def other_run(tmp_path: Path) -> Built:
    """The same tables, and models from another seed."""
    return build(tmp_path / "other", Recipe(seed=8))


@pytest.fixture
def lock(place: Place, run: Built, tmp_path: Path) -> Path:
    """Export the run as ``v``, and lock it."""
    export(run.path, "v", place)
    file = tmp_path / "model.gkc-lock"
    told = done("gkc", "lock", "--version", "v", "-o", file, place=place)
    assert told.startswith("v is locked to sha256:")
    done("gkc", "check", file, place=place)
    return file


def refusal(lock: Path, place: Place, *options: str) -> str:
    result = command("gkc", "check", lock, *options, place=place)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


def another_run_under_the_name(place: Place, run: Built, other: Built) -> Place:
    export(other.path, "v", place)
    return place


def a_rollback_to_another_run(place: Place, run: Built, other: Built) -> Place:
    export(other.path, "v", place)
    export(run.path, "v", place)
    done("gkc", "versions", "rollback", "v", place=place)
    return place


def another_namespace(place: Place, run: Built, other: Built) -> Place:
    elsewhere = Place(place.url, "elsewhere")
    export(other.path, "v", elsewhere)
    return elsewhere


def a_restored_backup(place: Place, run: Built, other: Built) -> Place:
    path = Path(place.url.removeprefix("file:"))
    backup = path.with_name("backup")
    old = Place(f"file:{backup}", "default")
    export(other.path, "v", old)
    shutil.rmtree(path)
    backup.rename(path)
    return place


@pytest.mark.parametrize(
    "mix",
    [
        another_run_under_the_name,
        a_rollback_to_another_run,
        another_namespace,
        a_restored_backup,
    ],
)
def test_another_run_is_refused(
    lock: Path,
    place: Place,
    run: Built,
    other_run: Built,
    mix: Callable[[Place, Built, Built], Place],
) -> None:
    mixed = mix(place, run, other_run)
    told = refusal(lock, mixed)
    assert "is of vector space sha256:" in told
    assert "train it anew" in told
    with service(mixed) as url:
        for client in clients(mixed, url, lock):
            with pytest.raises(LockMismatchError, match="is of vector space sha256:"):
                client.knowledge(u=1, i=[1, 2])
            client.close()
        assert command("gkc", "check", lock, "--url", url).stderr.count(url) == 1


def clients(place: Place, url: str, lock: Path) -> list[Client]:
    """Return locked clients of a service, and of its store in this process."""
    return [
        Client(url, timeout=5, lock=lock),
        Client(place.url, namespace=place.namespace, timeout=5, lock=lock),
    ]


def test_clients_refuse_another_run_that_is_exported_meanwhile(
    lock: Path, place: Place, run: Built, other_run: Built
) -> None:
    (locked,) = Lock.read(lock).versions.values()
    with service(place) as url:
        for client in clients(place, url, lock):
            assert client.knowledge(u=1, i=[1, 2]).versions == {"v": locked.generation}
            export(other_run.path, "v", place)
            with pytest.raises(LockMismatchError, match="is of vector space"):
                _ask_until_refused(client, locked.generation)
            done("gkc", "versions", "rollback", "v", place=place)
            assert _answer_again(client).versions == {"v": locked.generation}
            client.close()


def _ask_until_refused(client: Client, generation: str) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        assert client.knowledge(u=1, i=1).versions == {"v": generation}
        time.sleep(0.02)


def _answer_again(client: Client) -> Knowledge:
    """Return the first answer that is not refused."""
    until = time.monotonic() + SECONDS
    while True:
        try:
            return client.knowledge(u=1, i=1)
        except LockMismatchError:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_clients_refuse_the_other_of_two_mixed_addresses(
    lock: Path, place: Place, other_run: Built, tmp_path: Path
) -> None:
    (locked,) = Lock.read(lock).versions.values()
    elsewhere = Place(f"file:{tmp_path / 'elsewhere'}", "default")
    export(other_run.path, "v", elsewhere)
    with service(place) as one, service(elsewhere) as other:
        outcomes = asyncio.run(_outcomes([one, other], lock))
    assert outcomes == {locked.generation, "refused"}


async def _outcomes(urls: list[str], lock: Path) -> set[str]:
    async with AsyncClient(urls, timeout=5, lock=lock) as client:
        return {await _outcome(client) for _ in range(40)}


async def _outcome(client: AsyncClient) -> str:
    try:
        answer = await client.knowledge(u=1, i=1)
    except LockMismatchError:
        return "refused"
    return answer.versions["v"]


def test_clients_pass_a_newer_export_of_the_same_run_unless_the_lock_is_exact(
    lock: Path, place: Place, run: Built, tmp_path: Path
) -> None:
    exact = tmp_path / "exact"
    done("gkc", "lock", "--version", "v", "--exact", "-o", exact, place=place)
    generation = str(export(run.path, "v", place)["generation"])
    with service(place) as url:
        for client in clients(place, url, lock):
            assert client.knowledge(u=1, i=1).versions == {"v": generation}
            copy = pickle.loads(pickle.dumps(client))
            assert copy.knowledge(u=1, i=1).versions == {"v": generation}
            client.close()
            copy.close()
        for client in clients(place, url, exact):
            with pytest.raises(LockMismatchError, match="is not the locked"):
                client.knowledge(u=1, i=1)
            client.close()


def test_a_version_that_is_not_locked_is_refused(
    lock: Path, place: Place, other_run: Built
) -> None:
    export(other_run.path, "w", place)
    refused = pytest.raises(LockMismatchError, match="the lock is of v")
    with Client(place.url, timeout=5, lock=lock) as client, refused:
        client.knowledge(u=1, i=1, v="w")
    with Client(place.url, timeout=5) as client, pytest.raises(ClientUsageError, match="v="):
        client.knowledge(u=1, i=1)


def test_a_newer_export_and_a_rollback_within_one_run_pass(
    lock: Path, place: Place, run: Built, tmp_path: Path
) -> None:
    run.set_table("users", run.tables["users"].slice(1))
    run.set_table("user_categories", run.tables["user_categories"].slice(0, 0))
    export(run.path, "v", place)
    done("gkc", "check", lock, place=place)
    assert "is not the locked" in refusal(lock, place, "--exact")
    done("gkc", "versions", "rollback", "v", place=place)
    done("gkc", "check", lock, "--exact", place=place)


def test_a_space_is_named_by_its_models_or_by_the_bundle(
    place: Place, run: Built, other_run: Built
) -> None:
    export(run.path, "digest", place)
    (run.path / "item.onnx").rename(run.path / "renamed.onnx")
    run.change_manifest(lambda m: m["models"]["item"].update(file="renamed.onnx"))
    export(run.path, "renamed", place)
    export(other_run.path, "other", place)
    run.change_manifest(lambda m: m.update(vector_space="keep-2021"))
    export(run.path, "named", place)
    listed = json.loads(done("gkc", "versions", "--json", place=place))["versions"]
    spaces = {info["version"]: info["vector_space"] for info in listed}
    assert spaces["digest"] == spaces["renamed"] != spaces["other"]
    assert spaces["named"] == "keep-2021"
    assert len({info["checksum"] for info in listed}) == len(listed)


def test_ids_that_become_strings_are_another_space(place: Place, tmp_path: Path) -> None:
    """The models are the same, but a downstream model's questions would all be refused."""
    run = build(tmp_path / "run", STRING_IDS)
    run.set_column("users", "user_id", [1, 2, 3, 4, 5])
    run.set_column("user_categories", "user_id", [3, 1, 3, 5])
    export(run.path, "v", place)
    lock = tmp_path / "model.gkc-lock"
    done("gkc", "lock", "--version", "v", "-o", lock, place=place)
    run.set_column("users", "user_id", ["a", "b", "c", "d", "e"])
    run.set_column("user_categories", "user_id", ["c", "a", "c", "e"])
    told = command("gkc-export", "--version", "v", "--bundle", run.path, place=place).stderr
    [warning] = [line for line in told.splitlines() if line.startswith("gkc-export: warning")]
    assert "user ids of v are string in this bundle, int64 in generation" in warning
    assert "is of vector space" in refusal(lock, place)


def test_what_cannot_be_locked(place: Place, run: Built, tmp_path: Path) -> None:
    file = tmp_path / "lock"
    missing = command("gkc", "lock", "--version", "v", "-o", file, place=place)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    export(run.path, "v", place)
    unknown = command("gkc", "lock", "--version", "w", "-o", file, place=place)
    assert unknown.returncode == 1
    assert "versions there: v" in unknown.stderr
    assert not file.exists()
    assert command("gkc", "lock", "-o", file, place=place).returncode == 2
    file.write_text("mine")
    taken = command("gkc", "lock", "--version", "v", "-o", file, place=place)
    assert (taken.returncode, file.read_text()) == (1, "mine")
    assert "is there, and is no lock; name another place" in taken.stderr
    nowhere = command("gkc", "lock", "--version", "v", "-o", tmp_path, place=place)
    assert nowhere.returncode == 1
    assert f"{tmp_path} is there, and is no lock" in nowhere.stderr


def test_the_lock_of_another_model_is_not_overwritten(
    lock: Path, place: Place, other_run: Built
) -> None:
    locked = lock.read_bytes()
    done("gkc", "lock", "--version", "v", "-o", lock, place=place)
    export(other_run.path, "v", place)
    result = command("gkc", "lock", "--version", "v", "-o", lock, place=place)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "locks something else (v)" in result.stderr
    assert lock.read_bytes() == locked
