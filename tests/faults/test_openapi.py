"""A running service is what its OpenAPI document says; asked by a tool that knows nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.commands import BIN, Place, free_port, start, wait_for
from tests.gkc.world import make_world

CONFIG = Path(__file__).with_name("schemathesis.toml")
OF_AN_OPERATION, CASES = 150, 1000


def test_answers_are_as_described(tmp_path: Path) -> None:
    place, port = Place(f"file:{tmp_path / 'store'}", "default"), free_port()
    make_world("20211220").publish(place.url)
    service = start("gkc", "serve", "--port", port, place=place, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/readyz", service)
        asked = subprocess.run(
            [
                *(BIN / "schemathesis", "--config-file", CONFIG, "--no-color"),
                *("run", f"{url}/openapi.json", "--max-examples", str(OF_AN_OPERATION)),
                *("--seed", "1", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        service.terminate()
        service.communicate(timeout=30)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    (generated,) = re.findall(r"(\d+) generated", asked.stdout)
    assert int(generated) >= CASES
