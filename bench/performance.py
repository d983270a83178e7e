"""Write docs/performance.md and its pictures from the JSON in docs/performance/.

python -m bench.performance
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Picture

from bench.report import spread
from bench.results import FOLDER, Curve, Section, read_section
from bench.run import MEASUREMENTS
from keep.reproduce.report import markdown_table

PAGE = FOLDER.parent / "performance.md"
REMARKS = FOLDER / "remarks.md"
"""Ours, about what missed its target and why; taken over into the page."""

HEADING = """\
# Performance, measured

Written by `make bench` from the JSON in [`performance/`](performance/); change that, or \
`performance/remarks.md`, not this page.

One worker on one core, a real Redis on the same machine, 1 user by B candidates, vectors 64 wide, \
stored and answered in f16: a row is 256 numbers. How each was measured stands below."""
READING = """\
A ratio compares two things measured in one run, in turns. Figures are medians of the repeats, \
with their range in parentheses; the verdict is the median's. CPU time is that of the process that \
serves, and the primary figure where both are given: load, service and Redis share the cores. \
*The commit before* is 8b4fcbb."""
OPENING: Sequence[tuple[str, str, Sequence[str]]] = (
    ("an answer of 500 rows takes (p50)", "latency", ["p50 over HTTP, B = 500"]),
    (
        "a core answers, for 1 / 50 / 500 rows",
        "throughput",
        [f"requests/s, B = {rows}, rows" for rows in (1, 50, 500)],
    ),
    (
        "beside `MGET` of the same 501 keys by redis-py, without HTTP",
        "latency",
        ["p50 over HTTP to p50 of redis-py's MGET, B = 500"],
    ),
    (
        "500 rows by the client in process, `file:` (p50)",
        "client",
        ["client in process, `file:`: p50"],
    ),
    ("rows that `gkc join` joins", "join", ["rows joined"]),
    ("beside Feast, Feast's p50 to ours, 500 rows", "feast", ["p50, Feast to ours, B = 500"]),
    (
        "beside Feast, our requests/s to Feast's, 500 rows",
        "feast",
        ["requests/s, ours to Feast, 4 under way, B = 500"],
    ),
    ("from the start of the process to ready", "against", ["start to ready, embedded"]),
    ("memory of a ready worker, without its items", "against", ["memory of a ready worker"]),
)
"""What a user wants to know first: what it is, and the measurement and figures that tell it."""
FIRST_PICTURE = "growth-rows"
SIZE = (6.4, 3.6)
"""Of a picture, inches."""
LOGARITHMIC = 30
"""An axis is logarithmic from so large a range on; a smaller one is read better without."""
MOST_TICKS = 8
"""An axis of so few points is marked at each of them."""


def page(sections: Sequence[Section], remarks: str) -> str:
    """Write the page of some sections, and remarks about what was missed, in Markdown."""
    parts = [HEADING, *_opening(sections), "## What was to be reached", READING]
    parts.append(_verdicts(sections))
    parts += ["## What was missed, and why", remarks.strip()] if remarks.strip() else []
    for section in sections:
        parts += [f"## {section.title}", section.method.strip()]
        rows = [
            (figure.name, f"{spread(figure.values, figure.digits)} {figure.unit}".strip())
            for figure in section.figures
        ]
        parts += [markdown_table(("figure", "found"), rows)] if rows else []
        parts += [_shown(curve) for curve in section.curves if curve.name != FIRST_PICTURE]
        parts += ["\n".join(f"- {note}" for note in section.notes)] if section.notes else []
        told = [f"- {name} `{value}`" for name, value in section.circumstances.items()]
        parts.append("\n".join(told))
    return "\n\n".join(parts) + "\n"


def draw(curve: Curve) -> Picture:
    """Draw a curve: medians, with the range of the repeats."""
    picture = Picture(figsize=SIZE, layout="constrained")
    axes = picture.subplots()
    for name, points in curve.lines.items():
        x = [at for at, _ in points]
        middle = [statistics.median(values) for _, values in points]
        low = [m - min(values) for m, (_, values) in zip(middle, points, strict=True)]
        high = [max(values) - m for m, (_, values) in zip(middle, points, strict=True)]
        axes.errorbar(x, middle, yerr=(low, high), marker="o", capsize=3, label=name)
    axes.set(title=curve.title, xlabel=curve.x, ylabel=curve.y)
    places = sorted({at for points in curve.lines.values() for at, _ in points})
    values = [v for points in curve.lines.values() for _, repeats in points for v in repeats]
    if places[-1] >= LOGARITHMIC * places[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places, [_number(place) for place in places])
    if curve.log_y and max(values) >= LOGARITHMIC * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(curve.lines) > 1:
        axes.legend()
    return picture


def _opening(sections: Sequence[Section]) -> list[str]:
    """Tell what a user wants to know, as far as it has been measured."""
    by_name = {
        (section.module.removeprefix("bench."), figure.name): figure
        for section in sections
        for figure in section.figures
    }
    rows = []
    for told, module, names in OPENING:
        figures = [by_name[module, name] for name in names if (module, name) in by_name]
        if figures:
            medians = " / ".join(f"{figure.median:,.{figure.digits}f}" for figure in figures)
            rows.append((told, f"**{medians}** {figures[0].unit}"))
    pictures = [_shown(c) for s in sections for c in s.curves if c.name == FIRST_PICTURE]
    return [*([markdown_table(("what", "found"), rows)] if rows else []), *pictures]


def _shown(curve: Curve) -> str:
    return f"![{curve.title}](performance/{curve.name}.svg)"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _verdicts(sections: Sequence[Section]) -> str:
    rows = []
    for figure in (figure for section in sections for figure in section.figures if figure.verdict):
        verdict = figure.verdict.replace("missed", "**missed**")
        rows.append((figure.name, spread(figure.values, figure.digits), figure.bounds, verdict))
    return markdown_table(("measure", "found", "target / stretch", "verdict"), rows)


def write(folder: Path = FOLDER, target: Path = PAGE) -> list[Path]:
    """Write the page and its pictures from the JSON and the remarks in a folder.

    Returns
    -------
    list of Path
        Every file written; empty if there is nothing to write of.
    """
    files = [folder / f"{name}.json" for name in MEASUREMENTS]
    sections = [read_section(file) for file in files if file.exists()]
    if not sections:
        return []
    written = [target]
    remarks = folder / REMARKS.name
    told = remarks.read_text(encoding="utf-8") if remarks.exists() else ""
    target.write_text(page(sections, told), encoding="utf-8")
    # The same figures give the same file: ids from a fixed salt, text as text, no date.
    with mpl.rc_context({"svg.hashsalt": "gkc", "svg.fonttype": "none"}):
        for curve in (curve for section in sections for curve in section.curves):
            path = folder / f"{curve.name}.svg"
            FigureCanvasSVG(draw(curve)).print_figure(path, format="svg", metadata={"Date": None})
            written.append(path)
    return written


def main() -> int:
    """Write the page; return 1 if there are no results."""
    written = write()
    for path in written:
        print(path.relative_to(FOLDER.parent.parent))
    if not written:
        print(f"no results in {FOLDER.relative_to(FOLDER.parent.parent)}", file=sys.stderr)
    return 0 if written else 1


if __name__ == "__main__":
    sys.exit(main())
