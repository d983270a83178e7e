"""Pictures of the tables: lifts with their intervals, the paper's beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from keep.reproduce.paper import TITLES
from keep.reproduce.report import Row

OURS, PAPERS, FAINT = "#1f5fa8", "#d9822b", "#888888"
WIDTH = 8.0
"""Inches."""


def draw_plots(results: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw the lifts of every table, and the curve and the groups of tables 6 and 7, as PNG files.

    They are ``table-<number>.png``, and for table 7 ``table-7-gauc.png`` beside it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = results["log"]["name"]
    figures = {}
    for number, table in results["tables"].items():
        rows = [row for row in table["rows"] if row["base"] is not None and row["lift"] is not None]
        if not rows:
            continue
        title = f"Table {number}: {TITLES[number]}"
        draw = _curve if number == "6" else _lifts
        figures[f"table-{number}"] = draw(rows, title, log)
        if number == "7":
            groups = [row for row in rows if not row["note"].startswith("control")]
            figures["table-7-gauc"] = _groups(groups, title, log)
    paths = []
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        FigureCanvasAgg(figure).print_figure(path, dpi=150)
        paths.append(path)
    return paths


def _lifts(rows: Sequence[Row], title: str, log: str) -> Figure:
    """One line for each row, ours with its interval above the paper's."""
    axes = _axes(height=1.5 + 0.45 * len(rows))
    places = np.arange(len(rows), dtype=np.float64)
    lift, spread = _with_spread(rows)
    axes.errorbar(lift, places - 0.12, xerr=spread, fmt="o", color=OURS, capsize=3, label=log)
    known = [(place, row["paper"]["lift"]) for place, row in enumerate(rows) if row["paper"]]
    if known:
        at, papers = zip(*known, strict=True)
        axes.plot(papers, np.array(at) + 0.18, "D", color=PAPERS, markersize=5, label="paper")
    axes.axvline(0.0, color=FAINT, linewidth=1)
    _print_lifts(axes, rows)
    axes.set_yticks(places, [row["name"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("lift of GAUC over Base, 95 % interval")
    return _finished(axes, title)


def _print_lifts(axes: Axes, rows: Sequence[Row]) -> None:
    """Write each lift at the right edge; controls without chance do not stretch the scale."""
    trained = [row for row in rows if len(row["gauc"]) > 1]
    seen = [0.0, *(value for row in trained for value in row["interval"])]
    seen += [row["paper"]["lift"] for row in trained if row["paper"]]
    margin = 0.05 * (max(seen) - min(seen)) or 0.001
    axes.set_xlim(min(seen) - margin, max(seen) + margin)
    edge = blended_transform_factory(axes.transAxes, axes.transData)
    for place, row in enumerate(rows):
        beyond = " →" if row["lift"] > max(seen) else " ←" if row["lift"] < min(seen) else ""
        text = f"{row['lift']:+.4f}{beyond}"
        axes.text(1.02, place, text, transform=edge, va="center", fontsize=9, color=OURS)


def _curve(rows: Sequence[Row], title: str, log: str) -> Figure:
    """Lift by amount of pretraining data, in the rows' order."""
    axes = _axes(height=4.0)
    places = np.arange(len(rows), dtype=np.float64)
    lift, spread = _with_spread(rows)
    axes.errorbar(places, lift, yerr=spread, fmt="o-", color=OURS, capsize=3, label=log)
    papers = [row["paper"]["lift"] if row["paper"] else np.nan for row in rows]
    axes.plot(places, papers, "D--", color=PAPERS, markersize=5, label="paper")
    axes.axhline(0.0, color=FAINT, linewidth=1)
    axes.set_xticks(places, [f"{row['name']}\n{row['note']}".strip() for row in rows])
    axes.set_xlim(-0.4, len(rows) - 0.6)
    axes.set_ylabel("lift of GAUC over Base, 95 % interval")
    return _finished(axes, title)


def _groups(rows: Sequence[Row], title: str, log: str) -> Figure:
    """GAUC of Base and KEEP in every group of users: mean and range over seeds."""
    axes = _axes(height=4.0)
    places = np.arange(len(rows), dtype=np.float64)
    series = (("Base", "base_gauc", FAINT, -0.08), ("KEEP", "gauc", OURS, 0.08))
    for name, column, colour, shift in series:
        values = np.array([row[column] for row in rows], dtype=np.float64)  # (groups, S)
        mean = values.mean(axis=1)
        spread = np.stack([mean - values.min(axis=1), values.max(axis=1) - mean])
        axes.errorbar(
            places + shift, mean, yerr=spread, fmt="o", color=colour, capsize=3, label=name
        )
    axes.set_xticks(places, [row["name"] for row in rows])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xlabel("clicks of the user in the super-domain, if nothing else is named")
    axes.tick_params(axis="x", rotation=30)
    axes.set_ylabel("GAUC, mean and range over seeds")
    return _finished(axes, f"{title}\n{log}")


def _axes(height: float) -> Axes:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes: Axes = figure.subplots()
    axes.grid(visible=True, color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _with_spread(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Lifts (n,) and how far their intervals reach below and above, (2, n)."""
    lift = np.array([row["lift"] for row in rows], dtype=np.float64)
    low, high = np.array([row["interval"] for row in rows], dtype=np.float64).T
    return lift, np.clip(np.stack([lift - low, high - lift]), 0.0, None)


def _finished(axes: Axes, title: str) -> Figure:
    axes.set_title(title, loc="left", fontsize=11)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure
