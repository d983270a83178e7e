"""Both stores, and an export without the command around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.progress import PhaseProgress
from exporter.run import ExportOptions, ExportReport, run_export
from gkc.store import Retention
from tests.exporter.bundles import Built
from tests.exporter.places import Place

Export = Callable[..., ExportReport]


@pytest.fixture
def file_place(tmp_path: Path) -> Place:
    return Place(f"file:{tmp_path / 'store'}", "default")


@pytest.fixture(params=["file", pytest.param("redis", marks=pytest.mark.redis)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return Place(f"file:{tmp_path / 'store'}", "default")
    url: str = request.getfixturevalue("redis_server_url")
    namespace: str = request.getfixturevalue("redis_namespace")
    return Place(url, namespace)


@pytest.fixture
def export() -> Export:
    """Export a bundle without a grace period; keywords change the options."""

    def run(built: Built, place: Place, version: str = "v1", **changes: Any) -> ExportReport:
        options = {"retention": Retention(grace_seconds=0.0), **changes}
        return run_export(
            ExportOptions(version, built.path, place.url, place.namespace, **options),
            PhaseProgress(on_terminal=False),
        )

    return run
