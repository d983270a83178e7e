"""Load test with Locust: of a service that it starts itself, or of one that runs already.

    python -m loadtest.run [smoke|latency|stress] [--host http://127.0.0.1:8000]

Its own service answers from knowledge that it makes, two versions in a Redis server of its own.
How much of its core Locust itself used is told, and so whether a limit is its own: what the service
can do at most is measured by ``bench.throughput``. Locust is installed from
``requirements/loadtest.txt`` into ``.venv-loadtest`` at the first run. HTML and CSV go to
``loadtest/results/PRESET``. Exits with 1 if a request failed or an answer was wrong.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Collection, Sequence
from dataclasses import replace
from http.client import HTTPException
from typing import Annotated, Any

import typer

from bench.bundles import USER_ID_STEP
from bench.checkouts import ROOT
from bench.processes import Server
from bench.report import print_circumstances
from bench.stage import Stage
from bench.world import Shape, export
from gkc.knowledge import row_width
from loadtest.generator import generate
from loadtest.plan import Plan
from loadtest.presets import PRESETS, Name, Preset
from loadtest.report import print_report
from loadtest.traffic import DESCRIPTION, Ids, Known, draw

RESULTS = ROOT / "loadtest" / "results"
VERSIONS = ("20211219", "20211220")
"""Made where no service is named."""
QUESTIONS = 10_000
_TIMEOUT_SECONDS = 10


def main(
    name: Annotated[Name, typer.Argument(metavar="PRESET", help="smoke, latency or stress.")] = (
        Name.SMOKE
    ),
    host: Annotated[str, typer.Option(help="URL of a running service; default: its own.")] = "",
    version: Annotated[
        list[str] | None, typer.Option(help="Of the running service's; default: all of them.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests per second, of smoke and latency.", min=0.1)
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long.", min=1)] = None,
) -> None:
    """Load a service with the traffic of ranking models."""
    preset = PRESETS[name]
    if rate and preset.rate is None:
        raise typer.BadParameter(f"{name} has no rate: each model asks as soon as it is answered")
    if version and not host:
        raise typer.BadParameter("--version goes with --host")
    preset = replace(preset, rate=rate or preset.rate, seconds=seconds or preset.seconds)
    print_circumstances("loadtest.run")
    print(f"{name}: {preset.purpose}\n{DESCRIPTION}", flush=True)
    with Stage() as stage:
        if host:
            host = host.rstrip("/")
            known = known_by(host, version or ())
        else:
            known, host = known_of(preset.shape), own_service(stage, preset.shape).url
        is_good = _test(name, preset, known, host, stage.other_cores)
    if not is_good:
        raise typer.Exit(1)


def own_service(stage: Stage, shape: Shape) -> Server:
    """Make knowledge of a shape under each version, and serve it."""
    size = f"{shape.users:,} users with {shape.pairs} pairs each, {shape.items:,} items"
    print(f"making versions {' and '.join(VERSIONS)}: {size}", flush=True)
    store = stage.redis().redis_url()
    for version in VERSIONS:
        export(stage.folder / "bundle", shape, store, version)
    return stage.serve(store)


def known_of(shape: Shape) -> Known:
    """Return what the service knows that ``own_service`` starts."""
    users, items = Ids(shape.users, 0, USER_ID_STEP), Ids(shape.items)
    return Known(dict.fromkeys(VERSIONS, 4 * shape.dim), users, items, is_complete=True)


def known_by(host: str, names: Sequence[str]) -> Known:
    """Ask a running service what it knows of some versions, of all if none are named.

    Its ids are taken to count from 1.

    Raises
    ------
    SystemExit
        If no service answers there, or it has none of the versions, or not all that are named.
    """
    try:
        with urllib.request.urlopen(f"{host}/versions", timeout=_TIMEOUT_SECONDS) as answer:
            listed: list[dict[str, Any]] = json.load(answer)["versions"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as exc:
        raise SystemExit(f"no gkc service at {host}: {exc}; start one with `make up`") from None
    ready = {version["version"]: version for version in listed if version["ready"]}
    if not ready:
        raise SystemExit(f"{host} serves no version; export one with gkc-export")
    absent = [name for name in names if name not in ready]
    if absent:
        raise SystemExit(f"{host} does not serve {', '.join(absent)}, but {', '.join(ready)}")
    chosen = {name: ready[name] for name in names or ready}
    widths = {name: row_width(v["dim"], v["category_dim"]) for name, v in chosen.items()}
    users, items = (max(1, *(v[what] for v in chosen.values())) for what in ("users", "items"))
    return Known(widths, Ids(users, 1), Ids(items, 1), is_complete=False)


def _test(name: Name, preset: Preset, known: Known, host: str, cores: Collection[int]) -> bool:
    how = (preset.models, preset.seconds, preset.rate, preset.checked)
    plan = Plan(*how, known.widths, is_complete=known.is_complete)
    results = RESULTS / name
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    print(f"asking {host} for {preset.seconds:,.0f} s", flush=True)
    outcome = generate(plan, draw(known, QUESTIONS), host, results, cores)
    is_good = print_report(outcome, plan, results / "percentiles.csv")
    print(f"HTML and CSV are in {results.relative_to(ROOT)}")
    return is_good


if __name__ == "__main__":
    typer.run(main)
