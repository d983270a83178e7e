"""Two checkouts are asked in turns, each running its own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.against import CASES, HERE, check_code, compared, main
from bench.load import Load
from tests.bench.loads import a_load


def test_ratios_are_of_runs_of_the_same_round() -> None:
    found = [
        (a_load(cpu_ms=1.0, p50_ms=3.0), a_load(cpu_ms=2.0, p50_ms=2.0)),
        (a_load(cpu_ms=3.0, p50_ms=1.0), a_load(cpu_ms=4.0, p50_ms=2.0)),
    ]
    told = compared("1 row", found)
    assert "CPU time 0.62 (0.50 to 0.75), p50 1.00 (0.50 to 1.50)" in told


@pytest.mark.parametrize("bad", [a_load(failed=1), replace(a_load(), requests=0)])
def test_failed_requests_end_it(bad: Load) -> None:
    with pytest.raises(SystemExit, match="1 row: requests failed"):
        compared("1 row", [(a_load(), bad)])


def test_a_folder_without_our_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is no checkout of gkc"):
        check_code(tmp_path, {"PYTHONPATH": str(tmp_path)})
    check_code(HERE, {"PYTHONPATH": str(HERE)})


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.usefixtures("wrk", "_same_cores")
def test_a_checkout_is_compared_with_a_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gkc").symlink_to(HERE / "gkc", target_is_directory=True)
    main(tmp_path, rounds=1, seconds=1, users=5, items=30)
    lines = capsys.readouterr().out.splitlines()
    for name in CASES:
        assert any(line.startswith(f"{name}: CPU time ") for line in lines)
