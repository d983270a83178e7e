"""What a measurement found, as JSON that docs/performance.md is written from and as text."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.report import circumstances, print_circumstances, spread

Line = Sequence[tuple[float, Sequence[float]]]
"""Points of a curve: x, and a value for each repeat."""
FOLDER = Path(__file__).parent.parent / "docs" / "performance"


@dataclass(frozen=True)
class Figure:
    """One figure, measured several times, and what it was to be."""

    name: str
    values: Sequence[float]
    """One for each repeat, in the order measured."""
    unit: str = "times"
    target: float | None = None
    stretch: float | None = None
    at_most: bool = False
    """Whether target and stretch are upper bounds."""
    digits: int = 2

    @property
    def median(self) -> float:
        """Of the repeats."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """``stretch``, ``met`` or ``missed``, judged by the median; empty without a target."""
        if self.target is None:
            return ""
        reaches = operator.le if self.at_most else operator.ge
        for bound, word in ((self.stretch, "stretch"), (self.target, "met")):
            if bound is not None and reaches(self.median, bound):
                return word
        return "missed"

    @property
    def bounds(self) -> str:
        """Target and stretch for people; empty without one."""
        sign = "≤" if self.at_most else "≥"
        given = [bound for bound in (self.target, self.stretch) if bound is not None]
        return " / ".join(f"{sign} {bound:g}" for bound in given)


@dataclass(frozen=True)
class Curve:
    """Lines over one axis: how a figure grows with a quantity."""

    name: str
    """Of the picture's file."""
    title: str
    x: str
    y: str
    """Axes, with units."""
    lines: Mapping[str, Line]
    log_y: bool = False
    """Whether y may be logarithmic, if its range is wide; x is if its own is."""


@dataclass(frozen=True)
class Section:
    """What one module of ``bench`` found."""

    module: str
    """``bench.NAME``."""
    title: str
    method: str
    """What was compared with what, and how: Markdown."""
    figures: Sequence[Figure] = ()
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    """Markdown, a line each: what limits a missed figure, what a curve shows."""
    packages: Sequence[str] = ()
    """Whose versions matter here beside those that are always named."""
    circumstances: dict[str, str] = field(default_factory=dict)
    """Where, when and from which commit; filled in when it is told."""


def tell(section: Section, *, save: bool) -> None:
    """Print a section, and save it for the page as ``docs/performance/NAME.json``."""
    print_circumstances(section.module, *section.packages)
    print(section.title)
    width = max((len(figure.name) for figure in section.figures), default=0)
    for figure in section.figures:
        told = f"{spread(figure.values, figure.digits)} {figure.unit}"
        print(f"  {figure.name:{width}}  {told:36}  {figure.bounds:16}  {figure.verdict}".rstrip())
    for curve in section.curves:
        print(f"  {curve.title}: {curve.y}")
        for line, points in curve.lines.items():
            told = ", ".join(f"{x:g}: {statistics.median(values):.3g}" for x, values in points)
            print(f"    {line}: {told}")
    for note in section.notes:
        print(f"  {note}")
    if save:
        FOLDER.mkdir(exist_ok=True)
        kept = asdict(section) | {
            "circumstances": circumstances(section.module, *section.packages),
        }
        name = section.module.removeprefix("bench.")
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_section(path: Path) -> Section:
    """Read a section that ``tell`` saved."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    figures = [Figure(**figure) for figure in kept.pop("figures")]
    curves = [Curve(**curve) for curve in kept.pop("curves")]
    return Section(figures=figures, curves=curves, **kept)
