from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.keep.logs import write_tiny_log

RUN = "import sys; sys.modules[sys.argv.pop(1)] = None; from keep.__main__ import main; main()"


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["pyarrow", "torch"])
def test_a_missing_extra_is_one_line(missing: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_tiny_log(log)
    command = ["pretrain", "--log", str(log), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", RUN, missing, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{missing} is not installed" in done.stderr
    assert "TORCH=cpu" in done.stderr
