from __future__ import annotations

import subprocess
import sys

import pytest

RUN = "import sys; sys.modules[sys.argv.pop(1)] = None; from exporter.__main__ import main; main()"


@pytest.mark.parametrize("missing", ["onnxruntime", "pyarrow", "typer"])
def test_a_missing_extra_is_one_line(missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, missing, "--version", "v1", "--bundle", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{missing} is not installed" in done.stderr
    assert "gkc[exporter]" in done.stderr
