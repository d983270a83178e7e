from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from keep.log import day_file, open_log
from tests.in_process import command, done
from tests.keep.logs import write_tiny_log

pytestmark = pytest.mark.slow

TAOBAO = "1,100,7,pv,1511582400\n1,101,8,buy,1511582460\n2,102,7,pv,1511668800\n9,9,9,pv,12\n"
JD = """user_id,sku_id,action_time,module_id,type
937922,357022,2018-02-04 08:28:15,7993217,1
1369568,271909,2018-02-05 19:59:31,8888888,2
"""
PRODUCTS = "sku_id,brand,shop_id,cate,market_time\n357022,1084,8308,31,\n271909,10301,6521,9,\n"


def test_taobao_with_dates_and_a_sub_domain(tmp_path: Path) -> None:
    file, out = tmp_path / "UserBehavior.csv", tmp_path / "log"
    file.write_text(TAOBAO)
    printed = done(
        *("keep", "import", "taobao", file, "--out", out, "--first-date", "2017-11-25"),
        *("--sub-domain-category", 7, "--sub-domain-category", 9, "--negatives", 1),
    )
    log = open_log(out)
    assert log.info.days == (1, 2)
    assert log.info.params["sub_domain_categories"] == [7, 9]
    assert log.info.clicks == 3
    assert "left out 1 rows outside of the dates" in printed
    assert "1 impressions that were not clicked are drawn" in printed


def test_jd_with_its_products(tmp_path: Path) -> None:
    (tmp_path / "jdata_action.csv").write_text(JD)
    (tmp_path / "jdata_product.csv").write_text(PRODUCTS)
    files = [tmp_path / "jdata_action.csv", tmp_path / "jdata_product.csv"]
    printed = done("keep", "import", "jd", *files, "--out", tmp_path / "log")
    assert open_log(tmp_path / "log").info.shops == 2
    assert "JD JData 2019 action log" in printed


def test_own_parquet(tmp_path: Path) -> None:
    tiny = write_tiny_log(tmp_path / "tiny")
    files = [day_file(tiny.path, day) for day in tiny.info.days]
    printed = done(
        *("keep", "import", "parquet", *files, "--out", tmp_path / "log", "--name", "shop"),
        *("--sub-domain-scene", "ads", "--source", "our warehouse", "--test-day", 2),
    )
    info = open_log(tmp_path / "log").info
    assert (info.name, info.checksum) == ("shop", tiny.info.checksum)
    assert (info.sub_domain_scenes, info.test_day) == (("ads",), 2)
    assert "source: our warehouse" in printed


def test_a_fault_of_own_parquet_is_one_line_with_column_and_row(tmp_path: Path) -> None:
    tiny = write_tiny_log(tmp_path / "tiny")
    file = tmp_path / "own.parquet"
    table = pq.read_table(day_file(tiny.path, 1), partitioning=None)
    times = table.column("time").to_pylist()
    times[4] = None
    index = table.column_names.index("time")
    pq.write_table(table.set_column(index, "time", [times]), file)
    result = command("keep", "import", "parquet", file, "--out", tmp_path / "log")
    assert result.returncode == 1
    assert result.stderr == (
        f"keep: {file}, column 'time', row 4: is null; the schema is in docs/log-schema.md\n"
    )
    assert not (tmp_path / "log").exists()


def test_a_log_of_another_source_is_not_replaced(tmp_path: Path) -> None:
    write_tiny_log(tmp_path / "log")
    (tmp_path / "UserBehavior.csv").write_text(TAOBAO)
    result = command(
        "keep", "import", "taobao", tmp_path / "UserBehavior.csv", "--out", tmp_path / "log"
    )
    assert result.returncode == 1
    assert "a log named 'tiny'" in result.stderr
    assert open_log(tmp_path / "log").info.name == "tiny"


@pytest.mark.parametrize(
    "arguments", [["taobao"], ["nonsense", "x"], ["taobao", "absent.csv", "--out", "x"]]
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert command("keep", "import", *arguments).returncode == 2


@pytest.mark.parametrize("source", ["taobao", "jd", "parquet"])
def test_every_source_has_help_with_an_example(source: str) -> None:
    assert f"Example: keep import {source}" in done("keep", "import", source, "--help")


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source in ("taobao", "jd", "parquet"):
        result = command("keep", "import", source, tmp_path / "pipe", "--out", tmp_path / "log")
        assert result.returncode == 2
        assert "is no regular file" in result.stderr


def test_of_a_folder_its_files_are_to_be_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "part-0.parquet").touch()
    result = command("keep", "import", "parquet", raw, "--out", tmp_path / "log")
    assert result.returncode == 2
    assert f"is a folder; name its files: {raw}/*.parquet" in " ".join(result.stderr.split())


def test_a_log_of_a_test_day_alone_is_warned_of(tmp_path: Path) -> None:
    tiny = write_tiny_log(tmp_path / "tiny")
    result = command("keep", "import", "parquet", day_file(tiny.path, 1), "--out", tmp_path / "log")
    assert result.returncode == 0
    assert result.stderr.startswith("keep: warning: no day is before the test day 1, ")
