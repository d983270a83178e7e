"""``gkc export-table``: a generation as Parquet tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gkc.cli.options import Store, load
from gkc.extras import extra_needed
from gkc.interrupts import terminated_as_interrupted
from gkc.progress import progress
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
    with (
        terminated_as_interrupted(),
        progress(f"writing {version}", export.rows) as advance,
    ):
        report = export.run(advance)
    print(
        f"wrote {version} into {target}: generation {report.generation}, {report.users:,} users, "
        f"{report.items:,} items, {report.user_categories:,} pairs"
    )
