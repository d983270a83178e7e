"""How many functions one warm request passes, without sockets: 500 rows, `file:`, safetensors f16.

    python -m bench.calls [CHECKOUT]

CHECKOUT is the root of another checkout, measured with its own `.venv` if it has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import uvloop
from starlette.types import Message

import gkc
from bench.world import VERSION, Shape, export, questions
from gkc.http.app import Service
from gkc.settings import Settings
from gkc.store import open_reader

ROWS: Final = 500
WARM: Final = 20
SHAPE: Final = Shape(users=5_000, items=50_000)
SCOPE: Final[dict[str, Any]] = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/knowledge",
    "raw_path": b"/knowledge",
    "root_path": "",
    "query_string": b"",
    "headers": [
        (b"content-type", b"application/json"),
        (b"accept", b"application/x-safetensors"),
    ],
}


@dataclass
class Calls:
    """Python functions entered; a coroutine that goes on after waiting is entered again."""

    ours: Counter[CodeType] = field(default_factory=Counter)
    others: Counter[CodeType] = field(default_factory=Counter)
    deepest: int = 0

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """Count a call; for `sys.setprofile`."""
        if event != "call" or frame.f_code.co_filename == __file__:
            return
        root = str(Path(gkc.__file__).parent)
        (self.ours if frame.f_code.co_filename.startswith(root) else self.others)[frame.f_code] += 1
        depth, at = 0, frame.f_back
        while at is not None and at.f_code.co_filename != __file__:
            depth, at = depth + 1, at.f_back
        self.deepest = max(self.deepest, depth + 1)


def main() -> None:
    """Count, here or in another checkout, and print."""
    if sys.argv[1:]:
        raise SystemExit(_count_in(Path(sys.argv[1]).resolve()))
    with tempfile.TemporaryDirectory() as scratch:
        store = f"file:{scratch}/store"
        export(Path(scratch) / "bundle", SHAPE, store)
        calls = uvloop.run(_calls(store))
    modules = {code.co_filename for code in calls.ours}
    print(
        f"{calls.ours.total()} calls in gkc ({len(calls.ours)} functions of {len(modules)} "
        f"modules), {calls.others.total()} in libraries; {calls.deepest} frames deep"
    )
    for code, count in calls.ours.most_common():
        print(f"{count:5} {Path(code.co_filename).stem}.{code.co_qualname}")


def _count_in(root: Path) -> int:
    """Run this file on another checkout's code, and return its exit status."""
    own = root / ".venv" / "bin" / "python"
    # With -P the folder of this file does not come before that of PYTHONPATH.
    command = [str(own) if own.exists() else sys.executable, "-P", __file__]
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(command, env=environment, cwd=root, check=False).returncode


async def _calls(store: str) -> Calls:
    service = Service(Settings(store_url=store), open_reader(store))
    async with service.lifespan():
        await service.serving.resolve_anew([VERSION])  # waits until it is loaded
        drawn = questions(SHAPE, ROWS, WARM + 1, seed=0)
        bodies = [json.dumps({**body, "dtype": "f16"}).encode() for body in drawn]
        for body in bodies[:WARM]:
            await _ask(service, body)
        calls = Calls()
        sys.setprofile(calls.note)
        try:
            await _ask(service, bodies[WARM])
        finally:
            sys.setprofile(None)
    return calls


async def _ask(service: Service, body: bytes) -> None:
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await service(dict(SCOPE), receive, send)
    if statuses != [200]:
        raise SystemExit(f"answered {statuses}")


if __name__ == "__main__":
    main()
