"""``keep import``: the user's own files as a log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from gkc.command_line import Commands
from gkc.progress import progress
from keep.log import open_log
from keep.log_summary import describe
from keep.log_writer import check_replaceable
from keep.sources import jd, parquet, taobao
from keep.sources.actions import SECONDS_A_DAY, ActionOptions

app = Commands(
    help="Write files that you have as a log. Example: keep import taobao UserBehavior.csv --out L",
    no_args_is_help=True,
)

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Directory of the new log: absent, empty, or a log of the same name, to be replaced.",
        metavar="LOG",
    ),
]


def _regular(path: str) -> Path:
    """Refuse pipes and devices: what is read twice, or told its size, must be a file."""
    file = Path(path)
    if file.is_dir():
        pattern = "*.parquet" if any(file.glob("*.parquet")) else "*"
        raise typer.BadParameter(f"{path} is a folder; name its files: {file / pattern}")
    if not file.is_file():
        problem = "is no regular file" if file.exists() else "is not there"
        raise typer.BadParameter(f"{path} {problem}")
    return file


File = Annotated[
    Path, typer.Argument(parser=_regular, metavar="FILE", help="UserBehavior.csv, unpacked.")
]
JdFiles = Annotated[
    list[Path],
    typer.Argument(
        parser=_regular, metavar="FILE", help="Action logs and product table, CSV, in any order."
    ),
]
ParquetFiles = Annotated[
    list[Path],
    typer.Argument(
        parser=_regular, metavar="FILE", help="Parquet files, not folders: raw/*.parquet."
    ),
]
Negatives = Annotated[
    int,
    typer.Option(
        min=0, max=100, metavar="N", help="Impressions drawn per clicked one; the source has none."
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Seed of that draw.")]
Categories = Annotated[
    list[int] | None,
    typer.Option(
        "--sub-domain-category",
        metavar="ID",
        help="Category of the sub-domain; may be repeated. Default: the most clicked categories, "
        "until they have a fifth of the clicks.",
    ),
]
FirstDate = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Leave out earlier calendar days (UTC+8)."
    ),
]
LastDate = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Leave out later calendar days (UTC+8)."
    ),
]


@app.command("taobao", short_help="Import Taobao's UserBehavior.csv.")
def import_taobao(
    file: File,
    out: Out,
    negatives: Negatives = 4,
    seed: Seed = 0,
    sub_domain_category: Categories = None,
    first_date: FirstDate = None,
    last_date: LastDate = None,
) -> None:
    """Import Taobao's UserBehavior.csv: user,item,category,pv|cart|fav|buy,timestamp.

    The set holds some rows with wrong timestamps; its days are 2017-11-25 to 2017-12-03.

    Example: keep import taobao UserBehavior.csv --out logs/taobao --first-date 2017-11-25
    --last-date 2017-12-03
    """
    check_replaceable(out, taobao.NAME)
    options = ActionOptions(negatives, seed, tuple(sub_domain_category or ()))
    bounds = _day(first_date), _day(last_date)
    with progress("reading", file.stat().st_size) as advance:
        outside = taobao.import_taobao(file, out, options, bounds, advance)
    _report(out, outside)


@app.command("jd", short_help="Import JD's action logs with their product table.")
def import_jd(
    files: JdFiles,
    out: Out,
    negatives: Negatives = 4,
    seed: Seed = 0,
    sub_domain_category: Categories = None,
    first_date: FirstDate = None,
    last_date: LastDate = None,
) -> None:
    """Import JD's action logs with their product table, JData 2016 or JData 2019.

    Action logs have user_id, sku_id, type and either time (2016: 1 browse, 2 cart, 4 buy, 6 click)
    or action_time (2019: 1 browse, 2 buy, 5 cart); product tables have sku_id, cate and shop_id or
    brand.

    Example: keep import jd jdata_action.csv jdata_product.csv --out logs/jd
    """
    check_replaceable(out, jd.NAME)
    options = ActionOptions(negatives, seed, tuple(sub_domain_category or ()))
    bounds = _day(first_date), _day(last_date)
    with progress("reading", sum(file.stat().st_size for file in files)) as advance:
        outside = jd.import_jd(files, out, options, bounds, advance)
    _report(out, outside)


@app.command("parquet")
def import_parquet(
    files: ParquetFiles,
    out: Out,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the log.")] = parquet.NAME,
    source: Annotated[
        str,
        typer.Option(metavar="TEXT", help="How the files were made; printed beside every figure."),
    ] = parquet.ParquetOptions.source,
    sub_domain_scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCENE", help="Scene of the sub-domain; may be repeated. Default: all scenes."
        ),
    ] = None,
    test_day: Annotated[
        int | None, typer.Option(metavar="DAY", help="Test day. Default: the last day.")
    ] = None,
) -> None:
    """Import Parquet files with the columns of the log schema.

    user, item, shop, category, day, time, scene, click, cart, conversion: docs/log-schema.md.
    Users, items, shops and categories are integers or strings.

    Example: keep import parquet part-*.parquet --out logs/own --sub-domain-scene ads
    """
    check_replaceable(out, name)
    options = parquet.ParquetOptions(name, source, tuple(sub_domain_scene or ()), test_day)
    with progress("reading", _parquet_rows(files)) as advance:
        parquet.import_parquet(files, out, options, advance)
    _report(out, 0)


def _report(out: Path, outside: int) -> None:
    log = open_log(out)
    print(describe(log))
    if log.info.days[0] > log.info.pretrain_until:
        typer.echo(
            f"keep: warning: no day is before the test day {log.info.test_day}, so that there is "
            "none to pretrain on: import earlier days, too",
            err=True,
        )
    if outside:
        print(f"left out {outside:,} rows outside of the dates")


def _parquet_rows(files: Sequence[Path]) -> int | None:
    """Count rows for the progress bar; a file that is no Parquet is reported by the import."""
    try:
        return sum(int(pq.read_metadata(file).num_rows) for file in files)
    except (OSError, ValueError):
        return None


def _day(date: datetime | None) -> int | None:
    if date is None:
        return None
    return int(date.replace(tzinfo=UTC).timestamp()) // SECONDS_A_DAY
