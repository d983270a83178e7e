"""``gkc export-table``: a generation as Parquet tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from gkc.cli.options import Store, load
from gkc.extras import extra_needed
from gkc.settings import StoreSettings


def run(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    version: Annotated[str, typer.Option(metavar="V", help="The version to write.")],
    store: Store = None,
) -> None:
    """Write a version's vectors as Parquet files.

    The numbers are those that are stored: halves, or floats.

    Example: gkc export-table --version 20211220 ./knowledge
    """
    settings = load(StoreSettings, store_url=store)
    with extra_needed("offline", "gkc export-table"):
        from gkc.offline.export_table import TableExport
        from gkc.offline.snapshot import StoreAddress

    address = StoreAddress(settings.store_url, settings.namespace, settings.mirror_dir)
    export = TableExport(address, version, target)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"writing {version}", total=export.rows)
        report = export.run(lambda rows: bar.advance(task, rows))
    print(
        f"wrote {version} into {target}: generation {report.generation}, {report.users:,} users, "
        f"{report.items:,} items, {report.user_categories:,} pairs"
    )
