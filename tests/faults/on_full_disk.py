"""Delete a version on a disk without a free byte: run where this process may mount one."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

from gkc.store import open_publisher
from gkc.testing.samples import publish_sample, small_sample
from tests import in_process
from tests.commands import Place


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert os.statvfs(disk).f_bavail == 0


def main(disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    place = Place(f"file:{disk / 'store'}", "default")
    with closing(open_publisher(place.url, place.namespace)) as publisher:
        for version in ("v1", "v2"):
            publish_sample(publisher, small_sample(version))
    fill(disk)
    told = [
        in_process.done("gkc", "versions", *args, place=place)
        for args in (("pin", "v2"), ("delete", "v1", "--yes", "--grace-seconds", "0"))
    ]
    assert len(list(disk.rglob("users.gkt"))) == 1, told
    assert os.statvfs(disk).f_bavail > 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
