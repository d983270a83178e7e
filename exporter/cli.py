"""The command ``gkc-export``: parse, call, print."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer
from pydantic import ValidationError

from exporter.errors import InterruptedExportError
from exporter.progress import PhaseProgress
from exporter.run import (
    ExportOptions,
    ExportReport,
    Report,
    check_version,
    plan_export,
    run_export,
)
from exporter.sessions import are_stuck
from gkc.command_line import Commands, run, seconds
from gkc.errors import CommandError, GkcError
from gkc.logs import set_up_logging
from gkc.settings import StoreSettings, refusals, variable_warnings
from gkc.store import ElementType, Retention, is_version_name, parse_store_url

app = Commands()
_PATIENCE_SECONDS: Final = 5
"""For an interrupted export to end by itself."""

_EXAMPLE = """\
Run a bundle's models and publish what they give as one version.

Example: gkc-export --version 20211220 --bundle ./bundle --store redis://127.0.0.1:6379

The tables are validated first; the rows go into a hidden generation, are verified, and are served
from one moment to the next. What was served before still serves if anything fails."""


Version = Annotated[
    str, typer.Option(metavar="V", help="Name to publish under, for example 20211220.")
]
Folder = Annotated[
    Path, typer.Option(metavar="DIR", help="Directory with manifest.json, models and tables.")
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="file:PATH, redis://, rediss:// or unix:// (GKC_STORE_URL; file:./gkc-data). "
        "GKC_NAMESPACE names one of the centers that share it.",
    ),
]
MaxVersions = Annotated[int, typer.Option(min=1, metavar="N", help="Versions served at most.")]
KeepPrevious = Annotated[
    int, typer.Option(min=0, max=1, metavar="N", help="Former generations kept for a rollback.")
]
Dtype = Annotated[ElementType, typer.Option(help="Type that vectors are stored in.")]
MaxPairs = Annotated[
    int, typer.Option(min=1, metavar="N", help="User-category pairs that one user may have.")
]
GraceSeconds = Annotated[
    float,
    typer.Option(
        parser=seconds, metavar="SECONDS", help="How long readers may go on with what was retired."
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Leave deleting what was retired to the next writer.")
]
Pin = Annotated[bool, typer.Option("--pin", help="Never evict this version.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted export of this bundle.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Validate only; name what would be evicted.")
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Instead of exporting: recompute a sample of the version published from this bundle, "
        "and compare.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@app.command(help=_EXAMPLE)
def export(
    version: Version,
    bundle: Folder,
    store: Store = None,
    max_versions: MaxVersions = 5,
    keep_previous: KeepPrevious = 1,
    dtype: Dtype = "f16",
    max_pairs_per_user: MaxPairs = 1000,
    grace_seconds: GraceSeconds = 10.0,
    no_wait: NoWait = False,
    pin: Pin = False,
    resume: Resume = False,
    dry_run: DryRun = False,
    check: Check = False,
    as_json: AsJson = False,
) -> None:
    """Parse the flags, run, and print; every foreseeable error is one line and status 1."""
    if not is_version_name(version):
        problem = f"{version!r} is no version name: 1 to 64 of A-Z a-z 0-9 . _ -"
        raise typer.BadParameter(problem, param_hint="--version")
    if check and (dry_run or resume or pin):
        problem = "it writes nothing; leave the other flags out"
        raise typer.BadParameter(problem, param_hint="--check")
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
        mirror_dir=settings.mirror_dir,
    )
    report = _run(_check if check else plan_export if dry_run else run_export, options)
    for line in [json.dumps(report.summary())] if as_json else _lines(report):
        typer.echo(line)


def _settings() -> StoreSettings:
    for line in variable_warnings():
        typer.echo(f"gkc-export: warning: {line}", err=True)
    try:
        return StoreSettings()
    except ValidationError as exc:
        raise typer.BadParameter(refusals(exc)) from exc


def _check(options: ExportOptions, progress: PhaseProgress) -> Report:
    where = parse_store_url(options.store)
    if where.is_missing():
        raise CommandError(
            f"no store at {where.path}, so nothing to check; name the right one by --store or "
            "GKC_STORE_URL, or export this bundle into it: leave --check out"
        )
    return check_version(options, progress)


def _run(
    action: Callable[[ExportOptions, PhaseProgress], Report], options: ExportOptions
) -> Report:
    on_terminal = sys.stderr.isatty()
    set_up_logging(logging.WARNING if on_terminal else logging.INFO)
    progress = PhaseProgress(on_terminal=on_terminal)
    try:
        with _ended_by_signals(options.version, progress), progress:
            return action(options, progress)
    except MemoryError as exc:
        line = "there is not enough memory here for this bundle; export it on more"
        raise GkcError(line) from exc
    except OSError as exc:
        # The system refused us a file of the store: its message says which and why.
        raise GkcError(f"{exc}; make room or mend the access, then export again") from exc


@contextmanager
def _ended_by_signals(version: str, progress: PhaseProgress) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C end the block, at once if told twice, and soon in any case."""

    def error() -> InterruptedExportError:
        return InterruptedExportError(version, published=progress.phase == "evict")

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        os.write(2, f"gkc-export: {error()}\n".encode())  # at any moment, as Python's own is not
        os._exit(1)

    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(number, end)
        signal.alarm(_PATIENCE_SECONDS)  # a thread may be at what does not end
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, end)
    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    except KeyboardInterrupt:
        raise error() from None
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:  # else the process is about to end
                signal.signal(number, handler)


def _lines(report: Report) -> list[str]:
    """Say for people what was compared, exported, or would be."""
    if not isinstance(report, ExportReport):
        return [
            f"version {report.version}, generation {report.generation}, in {report.store} is what "
            f"the models give: recomputed {report.users:,} users, {report.items:,} items and "
            f"{report.user_categories:,} user categories"
        ]
    counts = [
        f"  users            {report.users:>15,}",
        f"  items            {report.items:>15,}",
        f"  user categories  {report.user_categories:>15,}",
    ]
    evicted = ", ".join(report.evicted) or "nothing"
    if report.generation is None:
        return [
            f"would publish {report.version} into {report.store}; nothing was written",
            *counts,
            f"  bytes of vectors {report.bytes:>15,}",
            f"  would evict      {evicted}",
        ]
    rows = report.users + report.items + report.user_categories
    speed = rows / max(report.seconds, 1e-9)
    return [
        f"published {report.version} as generation {report.generation} in {report.store}",
        *counts,
        f"  bytes            {report.bytes:>15,}",
        f"  seconds          {report.seconds:>15,.1f}   ({speed:,.0f} rows/s)",
        f"  evicted          {evicted}",
    ]


def main() -> None:
    """Run the command; what ``gkc-export`` and ``python -m exporter`` call."""
    try:
        run(app, "gkc-export")
    except SystemExit as exc:
        if are_stuck() and isinstance(exc.code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exc.code)  # Python would wait for that thread
        raise
