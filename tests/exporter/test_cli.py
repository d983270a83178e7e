"""The command: exit status, what it prints and where; interrupted and stopped as a process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from exporter.cli import app
from tests import in_process
from tests.exporter.bundles import Built, Recipe, build
from tests.exporter.places import Place

GKC_EXPORT = Path(sys.executable).parent / "gkc-export"


def run(
    *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    with chdir(cwd or Path.cwd()):
        return in_process.command("gkc-export", *args, env=env)


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard error that are no log lines."""
    return [line for line in result.stderr.splitlines() if not line.startswith("{")]


def phases(stderr: str) -> list[str]:
    events = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return [e["phase"] for e in events if e["event"] == "export_phase"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(tmp_path / "bundle")


def test_an_export_prints_a_summary_and_logs_its_phases(built: Built, tmp_path: Path) -> None:
    result = run("--version", "v1", "--bundle", "bundle", "--grace-seconds", 0, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"file:{tmp_path}/gkc-data" in result.stdout
    assert re.search(r"published v1 as generation \d{10}-[0-9a-f]{8} ", result.stdout)
    assert re.search(r"users +12\n", result.stdout)
    assert phases(result.stderr) == ["write", "verify", "publish", "evict"]
    assert errors(result) == []


def test_json_is_one_line_with_the_contract_s_members(built: Built, place: Place) -> None:
    result = run(
        "--version", "v1", "--bundle", built.path, "--json", "--no-wait", env=place.environment
    )
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    summary = json.loads(line)
    assert list(summary) == [
        "version",
        "generation",
        "users",
        "items",
        "user_categories",
        "bytes",
        "seconds",
        "evicted",
    ]
    assert (summary["version"], summary["users"], summary["items"]) == ("v1", 12, 20)
    assert (summary["user_categories"], summary["evicted"]) == (18, [])
    assert summary["bytes"] > 0
    assert summary["seconds"] > 0


def test_the_store_flag_wins_over_the_environment(built: Built, tmp_path: Path) -> None:
    store = f"file:{tmp_path / 'flag'}"
    result = run(
        "--version", "v1", "--bundle", built.path, "--store", store, "--no-wait",
        env={"GKC_STORE_URL": f"file:{tmp_path / 'environment'}"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "flag").is_dir()
    assert not (tmp_path / "environment").exists()


def test_check_and_dry_run_print_what_they_found(built: Built, file_place: Place) -> None:
    flags = ("--version", "v1", "--bundle", built.path, "--no-wait")
    assert run(*flags, env=file_place.environment).returncode == 0
    checked = run(*flags, "--check", env=file_place.environment)
    assert checked.returncode == 0, checked.stderr
    assert "recomputed 12 users, 20 items and 18 user categories" in checked.stdout
    as_json = run(*flags, "--check", "--json", env=file_place.environment)
    assert json.loads(as_json.stdout)["users"] == 12

    other = ("--version", "v2", "--bundle", built.path, "--max-versions", 1)
    before = file_place.data()
    planned = run(*other, "--dry-run", env=file_place.environment)
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"would evict +v1\n", planned.stdout)
    planned = run(*other, "--dry-run", "--json", env=file_place.environment)
    assert json.loads(planned.stdout)["evicted"] == ["v1"]
    assert json.loads(planned.stdout)["generation"] is None
    assert file_place.data() == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--version", "v1"], "--bundle"),
        (["--bundle", "b"], "--version"),
        (["--version", "a b", "--bundle", "b"], "is no version name"),
        (["--version", "v" * 65, "--bundle", "b"], "is no version name"),
        (["--version", "v1", "--bundle", "b", "--max-versions", "0"], "--max-versions"),
        (["--version", "v1", "--bundle", "b", "--keep-previous", "2"], "--keep-previous"),
        (["--version", "v1", "--bundle", "b", "--grace-seconds", "-1"], "--grace-seconds"),
        (["--version", "v1", "--bundle", "b", "--grace-seconds", "inf"], "--grace-seconds"),
        (["--version", "v1", "--bundle", "b", "--dtype", "f64"], "--dtype"),
        (["--version", "v1", "--bundle", "b", "--check", "--dry-run"], "--check"),
        (["--version", "v1", "--bundle", "b", "--colour"], "--colour"),
    ],
)
def test_wrong_usage_exits_2(
    flags: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, flags, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert text in result.stderr
    assert not (tmp_path / "gkc-data").exists()


def test_a_wrong_namespace_names_its_variable(built: Built) -> None:
    result = run(
        "--version", "v1", "--bundle", built.path, env={"GKC_NAMESPACE": "a:b", "COLUMNS": "200"}
    )
    assert result.returncode == 2
    assert "GKC_NAMESPACE" in result.stderr


def drop_users(built: Built) -> None:
    (built.path / "users.parquet").unlink()


def null_price(built: Built) -> None:
    built.set_column("items", "price", [None, *range(19)])


def infinite_price(built: Built) -> None:
    built.set_column("items", "price", [np.inf, *range(19)])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop_users, "users.parquet"),
        (null_price, "items.parquet, column 'price', row 0"),
        (infinite_price, "items.parquet, row 0"),
    ],
)
def test_a_failure_is_one_line_and_exits_1(
    change: Any, text: str, built: Built, file_place: Place
) -> None:
    change(built)
    result = run("--version", "v1", "--bundle", built.path, env=file_place.environment)
    assert result.returncode == 1
    (line,) = errors(result)
    assert line.startswith("gkc-export: ")
    assert text in line
    assert result.stdout == ""
    assert file_place.data() == {}


def test_no_bundle_is_a_failure_not_a_traceback(tmp_path: Path) -> None:
    result = run("--version", "v1", "--bundle", tmp_path / "none", cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "none: is not there; --bundle names the folder of manifest.json" in line


def test_a_store_that_is_not_there_is_a_failure(built: Built) -> None:
    url = "redis://127.0.0.1:1/0"
    result = run("--version", "v1", "--bundle", built.path, "--store", url)
    assert result.returncode == 1
    (line,) = errors(result)
    assert "127.0.0.1:1" in line


def test_hidden_parts_of_a_table_are_warned_about_in_plain_words(
    tmp_path: Path, file_place: Place
) -> None:
    built = build(tmp_path / "bundle", Recipe(folders=True))
    hidden = ["_part-2.parquet", "_tmp/part-3.parquet", *(f".p{k}" for k in range(10))]
    (built.path / "users" / "_tmp").mkdir()
    for name in hidden:
        shutil.copy(built.path / "users" / "part-1.parquet", built.path / "users" / name)
    flags = ("--version", "v1", "--bundle", built.path, "--no-wait")
    for more in ((), ("--dry-run",), ("--check",)):
        result = run(*flags, *more, env=file_place.environment)
        assert result.returncode == 0, result.stderr
        (line,) = errors(result)
        assert line.startswith("gkc-export: warning: passed over, since a name that begins with")
        assert "users/.p0, users/.p1, " in line
        assert line.endswith(" and 2 more")
        assert "users/_tmp/part-3.parquet" in result.stderr  # the log has them all


@pytest.mark.parametrize("way", ["flag", "environment"])
def test_a_check_says_that_there_is_no_store_and_makes_none(
    way: str, built: Built, tmp_path: Path
) -> None:
    flags = ["--check", "--version", "v1", "--bundle", built.path]
    by_flag = way == "flag"
    result = run(
        *flags,
        *(["--store", "file:nope"] if by_flag else []),
        cwd=tmp_path,
        env={} if by_flag else {"GKC_STORE_URL": "file:nope"},
    )
    assert result.returncode == 1
    (line,) = errors(result)
    assert line.startswith(f"gkc-export: no store at {tmp_path}/nope, so nothing to check; name")
    assert "export this bundle into it: leave --check out" in line
    assert not (tmp_path / "nope").exists()


def test_a_temporary_directory_that_fills_up_is_a_failure(built: Built, file_place: Place) -> None:
    """A limit on the size of any file this process writes stands for the full disk."""
    built.set_table("users", big_users())
    built.set_table("user_categories", built.tables["user_categories"].slice(0, 0))
    command = f"ulimit -f 4; exec {GKC_EXPORT} --version v1 --bundle {built.path}"
    result = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, **file_place.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    (line,) = errors(result)
    assert "File too large" in line
    assert "TMPDIR" in line
    assert file_place.data() == {}


def big_users() -> pa.Table:
    lists = pa.array([list(range(40))] * 200)
    return pa.table({"user_id": np.arange(200), "history": lists})


def test_help_shows_an_example() -> None:
    result = run("--help", env={"COLUMNS": "120"})
    assert result.returncode == 0
    assert "gkc-export --version 20211220 --bundle ./bundle" in result.stdout
    for flag in ("--max-versions", "--keep-previous", "--dtype", "--resume", "--check", "--json"):
        assert flag in result.stdout


def test_the_module_is_the_command(built: Built, file_place: Place) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "exporter", "--help"], capture_output=True, text=True, check=True
    )
    assert "gkc-export" in result.stdout


@pytest.fixture
def large(tmp_path: Path) -> Built:
    """Enough rows that the write phase takes a while."""
    random = np.random.default_rng(0)
    users = np.arange(20_000)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(random.integers(0, 60, 20_000 * 40)), 40)
    return build(
        tmp_path / "large",
        Recipe(
            dim=64,
            category_dim=64,
            users={"user_id": users, "history": lists},
            user_categories={
                "user_id": np.repeat(users, 4),
                "category_id": np.tile(np.arange(4), 20_000),
            },
        ),
    )


@contextmanager
def started(built: Built, place: Place, *flags: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(GKC_EXPORT), "--version", "v1", "--bundle", str(built.path), "--no-wait", *flags],
        env={**os.environ, **place.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def log_until(process: subprocess.Popen[str], phase: str) -> dict[str, Any]:
    """The event of a phase's start, once it is logged."""
    assert process.stderr is not None
    for line in process.stderr:
        event: dict[str, Any] = json.loads(line)
        if event.get("phase") == phase:
            return event
    raise AssertionError(f"no phase {phase} in the log")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_an_interrupt_leaves_what_resume_goes_on_with(
    number: signal.Signals, large: Built, place: Place
) -> None:
    with started(large, place) as process:
        generation = log_until(process, "write")["generation"]
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 1, rest
    (line,) = (one for one in rest.splitlines() if not one.startswith("{"))
    assert "interrupted" in line
    assert "--resume" in line

    with started(large, place, "--resume", "--json") as resumed:
        out, log = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, log
    assert json.loads(out)["generation"] == generation
    assert json.loads(out)["users"] == 20_000


@pytest.mark.slow
def test_a_second_writer_of_the_version_exits_at_once(large: Built, place: Place) -> None:
    with started(large, place) as process:
        log_until(process, "write")
        process.send_signal(signal.SIGSTOP)
        second = run("--version", "v1", "--bundle", large.path, env=place.environment)
        process.send_signal(signal.SIGCONT)
        assert second.returncode == 1
        (line,) = errors(second)
        assert "is being written by" in line
        _, rest = process.communicate(timeout=120)
    assert process.returncode == 0, rest
