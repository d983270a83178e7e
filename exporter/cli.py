"""The command ``gkc-export``: parse, call, print."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from exporter.check import check_version
from exporter.errors import InterruptedExportError
from exporter.progress import PhaseProgress
from exporter.run import ExportOptions, ExportReport, plan_export, run_export
from gkc.errors import GkcError
from gkc.logs import set_up_logging
from gkc.settings import StoreSettings, refusals, variable_warnings
from gkc.store import ElementType, Retention, is_version_name

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_EXAMPLE = """\
Run a bundle's models and publish what they give as one version.

Example: gkc-export --version 20211220 --bundle ./bundle --store redis://127.0.0.1:6379

The tables are validated first; the rows go into a hidden generation, are verified, and are served
from one moment to the next. What was served before still serves if anything fails."""


@app.command(help=_EXAMPLE)
def export(
    version: Annotated[str, typer.Option(help="Name to publish under, for example 20211220.")],
    bundle: Annotated[Path, typer.Option(help="Directory with manifest.json, models and tables.")],
    store: Annotated[
        str | None, typer.Option(help="Store URL; default GKC_STORE_URL, else file:./gkc-data.")
    ] = None,
    max_versions: Annotated[int, typer.Option(min=1, help="Versions served at most.")] = 5,
    keep_previous: Annotated[
        int, typer.Option(min=0, max=1, help="Former generations kept for a rollback.")
    ] = 1,
    dtype: Annotated[ElementType, typer.Option(help="Type that vectors are stored in.")] = "f16",
    max_pairs_per_user: Annotated[
        int, typer.Option(min=1, help="User-category pairs that one user may have.")
    ] = 1000,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="How long readers may go on with what was retired.")
    ] = 10.0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave deleting what was retired to the next writer.")
    ] = False,
    pin: Annotated[bool, typer.Option("--pin", help="Never evict this version.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted export of this bundle.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate only; name what would be evicted.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Recompute a sample of what is stored and compare.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Parse the flags, run, and print; every foreseeable error is one line and status 1."""
    if not is_version_name(version):
        raise typer.BadParameter(
            f"{version!r} is no version name: 1 to 64 of A-Z a-z 0-9 . _ -", param_hint="--version"
        )
    if check and (dry_run or resume or pin):
        raise typer.BadParameter(
            "it writes nothing; leave the other flags out", param_hint="--check"
        )
    settings = _settings()
    options = ExportOptions(
        version=version,
        bundle=bundle,
        store=store or settings.store_url,
        namespace=settings.namespace,
        element_type=dtype,
        retention=Retention(max_versions, keep_previous, grace_seconds, pin),
        wait=not no_wait,
        resume=resume,
        max_pairs_per_user=max_pairs_per_user,
    )
    on_terminal = sys.stderr.isatty()
    set_up_logging(logging.WARNING if on_terminal else logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    progress = PhaseProgress(on_terminal=on_terminal)
    action = _check if check else _plan if dry_run else _export
    try:
        with progress:
            summary, lines = action(options, progress)
    except GkcError as exc:
        _fail(exc)
    except KeyboardInterrupt:
        _fail(InterruptedExportError(version, published=progress.phase == "evict"))
    except MemoryError:
        _fail(GkcError("there is not enough memory here for this bundle; export it on more"))
    except OSError as exc:
        # The system refused us a file of the store: its message says which and why.
        _fail(GkcError(f"{exc}; make room or mend the access, then export again"))
    for line in [json.dumps(summary)] if as_json else lines:
        typer.echo(line)


def _check(options: ExportOptions, progress: PhaseProgress) -> tuple[dict[str, Any], list[str]]:
    checked = check_version(options, progress)
    return checked.summary(), checked.lines()


def _plan(options: ExportOptions, progress: PhaseProgress) -> tuple[dict[str, Any], list[str]]:
    planned = plan_export(options, progress)
    return planned.summary(), _plan_lines(planned)


def _export(options: ExportOptions, progress: PhaseProgress) -> tuple[dict[str, Any], list[str]]:
    report = run_export(options, progress)
    return report.summary(), _report_lines(report)


def _settings() -> StoreSettings:
    for line in variable_warnings():
        typer.echo(f"gkc-export: warning: {line}", err=True)
    try:
        return StoreSettings()
    except ValidationError as exc:
        raise typer.BadParameter(refusals(exc)) from exc


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(error: GkcError) -> NoReturn:
    line = " ".join(str(error).split())
    typer.echo(f"gkc-export: {line}", err=True)
    raise typer.Exit(1)


def _report_lines(report: ExportReport) -> list[str]:
    rows = report.users + report.items + report.user_categories
    speed = rows / max(report.seconds, 1e-9)
    return [
        f"published {report.version} as generation {report.generation} in {report.store}",
        f"  users            {report.users:>15,}",
        f"  items            {report.items:>15,}",
        f"  user categories  {report.user_categories:>15,}",
        f"  bytes            {report.bytes:>15,}",
        f"  seconds          {report.seconds:>15,.1f}   ({speed:,.0f} rows/s)",
        f"  evicted          {', '.join(report.evicted) or 'nothing'}",
    ]


def _plan_lines(planned: ExportReport) -> list[str]:
    return [
        f"would publish {planned.version} into {planned.store}; nothing was written",
        f"  users            {planned.users:>15,}",
        f"  items            {planned.items:>15,}",
        f"  user categories  {planned.user_categories:>15,}",
        f"  bytes of vectors {planned.bytes:>15,}",
        f"  would evict      {', '.join(planned.evicted) or 'nothing'}",
    ]


def main() -> None:
    """Run the command; what ``gkc-export`` and ``python -m exporter`` call."""
    app(prog_name="gkc-export")
