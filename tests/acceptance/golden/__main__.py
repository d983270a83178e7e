"""Record golden answers: ``python -m tests.acceptance.golden --record`` writes ``golden.json``.

Whatever is recorded is what has to be answered from then on, so this is run before the code that
answers is replaced, and never to make a failing test pass. Both stores have to agree. Only the
outside is used: ``gkc-export``, ``gkc serve``, ``gkc get --json`` and HTTP.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.acceptance.golden.answers import GOLDEN, ask_all, golden_service
from tests.acceptance.golden.questions import fingerprint, questions
from tests.commands import Place
from tests.redis_server import RedisServer, find_redis_server


def record(folder: Path) -> None:
    """Ask everything of both stores and write the digests of the answers."""
    binary = find_redis_server()
    assert binary is not None, "no redis-server: install it"
    redis = RedisServer(binary, folder)
    redis.start()
    try:
        groups = _answers(Place(redis.url, "golden"), folder / "redis-bundles")
    finally:
        redis.stop()
    in_files = _answers(Place(f"file:{folder / 'store'}", "golden"), folder / "file-bundles")
    assert in_files == groups, "the stores do not agree"
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    recorded = {
        "commit": head.stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "questions": fingerprint(),
        "groups": groups,
    }
    GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")


def _answers(place: Place, bundles: Path) -> dict[str, list[str]]:
    with golden_service(place, bundles) as url:
        return ask_all(url, questions())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.golden")
    parser.add_argument("--record", action="store_true", required=True, help=f"write {GOLDEN.name}")
    parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        record(Path(scratch))
