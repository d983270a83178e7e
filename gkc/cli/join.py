"""``gkc join``: knowledge beside the rows of Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gkc.cli.options import Store, load, whole_number
from gkc.errors import CommandError
from gkc.extras import extra_needed
from gkc.interrupts import terminated_as_interrupted
from gkc.knowledge import ABSENT, DEFAULT, FOUND, PARTS
from gkc.progress import progress
from gkc.settings import StoreSettings

if TYPE_CHECKING:
    from gkc.offline.join import JoinReport

_IN_WORDS = {FOUND: "found", DEFAULT: "default", ABSENT: "absent"}


def run(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Parquet file, or folder of such files.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to write.")],
    version: Annotated[
        str | None, typer.Option(metavar="V", help="The version of all rows.")
    ] = None,
    version_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column with the version of each row.")
    ] = None,
    store: Store = None,
    dtype: Annotated[str, typer.Option(metavar="f32|f16", help="Type of the numbers.")] = "f32",
    parts: Annotated[
        str, typer.Option(metavar="PART,…", help="Only these parts, in row order.")
    ] = ",".join(PARTS),
    prefix: Annotated[
        str, typer.Option(metavar="P", help="Of the names of the columns that are added.")
    ] = "",
    restart: Annotated[
        bool, typer.Option("--restart", help="Join everything anew, whatever OUT has.")
    ] = False,
    max_reads_per_second: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="N",
            help="Users read from a store behind a network in a second, at most.",
        ),
    ] = None,
) -> None:
    """Add knowledge to the rows of Parquet files.

    IN has the columns user_id, item_id and, if you like, category_id (else, and where it is null,
    the item's own). OUT gets all columns of IN and knowledge and status, the very bits that the
    service answers. A run that was interrupted goes on with the files that are missing.

    Example: gkc join --version 20211220 --dtype f16 train.parquet joined.parquet
    """
    if (version is None) == (version_column is None):
        raise typer.BadParameter("name either --version or --version-column")
    settings = load(StoreSettings, store_url=store)
    with extra_needed("offline", "gkc join"):
        from gkc.offline.form import KnowledgeForm
        from gkc.offline.join import Join
        from gkc.offline.joiner import JoinOptions
        from gkc.offline.snapshot import StoreAddress

    address = StoreAddress(settings.store_url, settings.namespace, settings.mirror_dir)
    try:
        form = KnowledgeForm.of(dtype, [part.strip() for part in parts.split(",")], prefix)
    except CommandError as exc:
        raise typer.BadParameter(str(exc)) from exc
    join = Join(
        JoinOptions(
            source, target, address, version, version_column, form, restart, max_reads_per_second
        )
    )
    columns = TextColumn("joining"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with terminated_as_interrupted(), progress("", join.steps, *columns) as advance:
        report = join.run(advance)
    for line in _lines(report, target):
        print(line)


def _lines(report: JoinReport, target: Path) -> list[str]:
    """Say what was joined, from what, and how much of it was found."""
    kept = f"; {_count(report.kept, 'file')} finished before" if report.kept else ""
    lines = [
        f"joined {_count(report.rows, 'row')} of {_count(report.files, 'file')} into {target} "
        f"in {report.seconds:.1f} s{kept}"
    ]
    lines += [f"  version {v}: generation {g}" for v, g in report.generations.items()]
    for part, counts in zip(PARTS, report.counts.tolist(), strict=True):
        told = ", ".join(f"{counts[s]:,} {_IN_WORDS[s]}" for s in _IN_WORDS if counts[s])
        lines += [f"  {part}: {told}"] if told else []
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
