"""The wheel in empty environments: what an extra asks for is all that its modules need.

Only one of them is filled by pip, for that takes ten seconds: the others borrow the packages that
the wheel and its extra ask for, in the same versions, from the environment of the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.bundles import RECIPES, write_bundle
from tests.commands import Place, free_port, service, start, wait_for
from tests.in_process import export
from tests.wheel.environments import Environment, write_pins

pytestmark = pytest.mark.slow

Installed = Callable[..., Environment]

ROW = ("--user", 1, "--item", 1, "--version", "v1", "--json")
STORE, SERVICE = "gkc[store]", "gkc[service]"
OF_SERVICES = [
    f"gkc.client.{module.stem}"
    for module in (Path(__file__).parents[2] / "gkc" / "client").glob("*.py")
    if module.stem not in {"__init__", "local", "following"}
]
"""What a client of a service needs: all but what follows a store in this process."""
EXPORTER, KEEP, OFFLINE = "gkc[exporter]", "gkc[keep]", "gkc[offline]"
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    below = pkgutil.walk_packages(getattr(module, "__path__", []), name + ".")
    for each in (info.name for info in below):
        is_run = each.endswith((".__main__", ".librows"))
        # These need pytest, and what the extra offline brings.
        if not is_run and not each.startswith(("gkc.testing.", "gkc.offline.")):
            importlib.import_module(each)
"""

ASK = """
import sys
from gkc import Client
with Client(sys.argv[1], timeout=30) as client:
    print(client.knowledge(u=1, i=1, v="v1").status.tolist())
"""


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Installed:
    """Return a function that installs the wheel with some extra into an empty environment."""

    def install(*extras: str) -> Environment:
        environment = Environment.make(tmp_path / "environment")
        environment.install_wheel(wheel, set(extras))
        return environment

    return install


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle to export."""
    folder = tmp_path_factory.mktemp("bundle") / "plain"
    write_bundle(folder, RECIPES[0])
    return folder


@pytest.fixture
def place(bundle: Path, tmp_path: Path) -> Place:
    """Return a store that holds version v1 of the bundle."""
    there = Place(f"file:{tmp_path / 'store'}", "default")
    export(bundle, "v1", there)
    return there


def _imports(environment: Environment, *packages: str) -> None:
    environment.run("python", "-W", "error", "-c", IMPORT_ALL, *packages)


def _names(environment: Environment, extra: str, *command: object) -> None:
    """Assert that a command does nothing but say which extra it needs."""
    done = environment.run(str(command[0]), *command[1:], status=1)
    assert done.stderr.count("\n") == 1
    assert f"pip install '{extra}'" in done.stderr


def _gets_a_row(environment: Environment, store: str) -> None:
    answer = json.loads(environment.run("gkc", "get", *ROW, "--store", store).stdout)
    assert answer["status"] == [[1, 1, 1, 1]]


def _exports(environment: Environment, bundle: Path, store: str) -> None:
    where = ("--store", store, "--grace-seconds", 0)
    environment.run("gkc-export", "--version", "v1", "--bundle", bundle, *where)


def test_the_base_is_what_a_caller_needs(installed: Installed, place: Place) -> None:
    environment = installed()
    _imports(environment, *OF_SERVICES, "gkc.errors", "gkc.knowledge", "gkc.rows", "gkc.lock")
    with service(place) as url:
        assert environment.run("python", "-c", ASK, url).stdout == "[[1, 1, 1, 1]]\n"
    _names(environment, STORE, "gkc", "--help")
    _names(environment, EXPORTER, "gkc-export", "--help")
    _names(environment, KEEP, "keep", "--help")


def test_store(installed: Installed, place: Place) -> None:
    environment = installed("store")
    _imports(environment, "gkc.store", "gkc.cli", "gkc.client")
    _gets_a_row(environment, place.url)
    asked = environment.run("python", "-W", "error", "-c", ASK, place.url)
    assert asked.stdout == "[[1, 1, 1, 1]]\n"
    _names(environment, SERVICE, "gkc", "serve", "--store", place.url)
    _names(environment, OFFLINE, "gkc", "export-table", "--version", "v1", "out")
    _names(environment, OFFLINE, "gkc", "join", "--version", "v1", "in", "out")


def test_service(installed: Installed, place: Place) -> None:
    environment = installed("service")
    _imports(environment, "gkc")
    assert "Usage" in environment.run("gkc", "serve", "--help").stdout
    _names(environment, EXPORTER, "gkc-export", "--help")
    port = free_port()
    serving = start(environment.folder / "bin" / "gkc", "serve", "--port", port, place=place)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", serving)
    finally:
        serving.terminate()
        serving.wait(timeout=30)


def test_exporter(installed: Installed, bundle: Path, tmp_path: Path) -> None:
    environment, store = installed("exporter"), f"file:{tmp_path / 'own'}"
    _imports(environment, "exporter")
    assert "Usage" in environment.run("gkc-export", "--help").stdout
    _exports(environment, bundle, store)
    _gets_a_row(environment, store)


def test_offline(installed: Installed, place: Place, tmp_path: Path) -> None:
    environment, tables = installed("offline"), tmp_path / "tables"
    _imports(environment, "gkc.store", "gkc.offline.batches")
    _gets_a_row(environment, place.url)
    where = ("--version", "v1", "--store", place.url)
    environment.run("gkc", "export-table", *where, tables)
    # Pairs of user and item, of which each table has one.
    pairs = "import pyarrow as pa, pyarrow.parquet as pq, sys; "
    pairs += "pq.write_table(pa.table({'user_id': [1], 'item_id': [1]}), sys.argv[1])"
    environment.run("python", "-c", pairs, tmp_path / "in")
    told = environment.run("gkc", "join", *where, tmp_path / "in", tmp_path / "out").stdout
    assert "joined 1 row of 1 file" in told


def test_pip_installs_all_of_them_without_torch(wheel: Path, bundle: Path, tmp_path: Path) -> None:
    environment, store = Environment.make(tmp_path / "environment"), f"file:{tmp_path / 'own'}"
    # A new release elsewhere fails no test here.
    environment.install("-c", write_pins(tmp_path / "pins.txt"), f"{wheel}[all]")
    _imports(environment, "gkc", "exporter")
    _exports(environment, bundle, store)
    _gets_a_row(environment, store)


def test_keep(installed: Installed) -> None:
    pytest.importorskip("torch", reason="installed with TORCH=none")
    environment = installed("keep")
    _imports(environment, "keep")
    assert "Usage" in environment.run("keep", "--help").stdout
