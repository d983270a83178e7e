"""Results for people: ``report.md`` and tables on the terminal, the paper's figures beside ours."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from keep.reproduce.paper import TITLES
from keep.reproduce.results import COLLAPSED, has_collapsed

Results = Mapping[str, Any]
"""What ``results.json`` holds."""
Row = Mapping[str, Any]
"""One of its rows."""

MISSING = "-"


def rows_by_name(table: Mapping[str, Any]) -> dict[str, Row]:
    """Look the rows of a table up by their name."""
    return {row["name"]: row for row in table["rows"]}


def gauc_cell(gauc: Sequence[float | None] | None, *, with_deviation: bool = True) -> str:
    """Say the mean and the standard deviation over seeds, for example ``0.6380 ± 0.0004``."""
    values = [value for value in gauc or () if value is not None]
    if not values:
        return MISSING
    mean = f"{statistics.mean(values):.4f}"
    with_deviation = with_deviation and len(values) > 1
    return f"{mean} ± {statistics.stdev(values):.4f}" if with_deviation else mean


def lift_cell(row: Row) -> str:
    """Say a row's lift with its sign; the base itself has none."""
    return MISSING if row["base"] is None else signed(row["lift"])


def interval_cell(interval: Sequence[float | None]) -> str:
    """Say an interval of lifts with their signs."""
    return f"{signed(interval[0])} to {signed(interval[1])}" if None not in interval else MISSING


def share_cell(share: Mapping[str, Any] | None, missing: str = MISSING) -> str:
    """Say a share of a lift in percent, with its interval."""
    if share is None or share["value"] is None:
        return missing
    low, high = share["interval"]
    spread = "" if low is None else f" ({low:.0%} to {high:.0%})"
    return f"{share['value']:.0%}{spread}"


def difference_cell(share: Mapping[str, Any] | None) -> str:
    """Say the paired difference that stands beside a share; earlier results have none."""
    if share is None or "difference" not in share:
        return MISSING
    found = share["difference"]
    return f"{signed(found['lift'])} ({interval_cell(found['interval'])})"


def signed(value: float | None) -> str:
    """Write a difference of GAUCs with its sign and four decimals."""
    return MISSING if value is None else f"{value:+.4f}"


def paper_cells(row: Row) -> tuple[str, str]:
    """Say the paper's GAUC and lift of a row."""
    if row["paper"] is None:
        return MISSING, MISSING
    lift = MISSING if row["base"] is None else signed(row["paper"]["lift"])
    return f"{row['paper']['gauc']:.4f}", lift


EXTRAS: Mapping[str, Callable[[Row], str]] = {
    "share of the teacher's lift": lambda row: share_cell(row["share"]),
    "GAUC minus the teacher's": lambda row: difference_cell(row["share"]),
    "transfer ratio": lambda row: share_cell(row.get("transfer")),
}
"""Columns that only some tables have, by their heading."""


def extras_of(rows: Iterable[Row]) -> list[str]:
    """Name those of ``EXTRAS`` that rows have."""
    rows = list(rows)
    return [name for name, cell in EXTRAS.items() if any(cell(row) != MISSING for row in rows)]


def has_own_bases(rows: Iterable[Row]) -> bool:
    """Say whether rows have bases of their own that the table does not list (tables 5 and 7)."""
    rows = list(rows)
    return bool({row["base"] for row in rows if row["base"]} - {row["name"] for row in rows})


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table, its first column to the left and the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(results: Results) -> str:
    """Write the report of one run."""
    sections = [
        f"# KEEP's tables on {results['log']['name']}",
        _reading(results),
        *(_section(number, table) for number, table in results["tables"].items()),
        *beside_lines(results),
        "## Tuned options",
        *tuned_lines(results),
        _circumstances(results),
    ]
    return "\n\n".join(sections) + "\n"


def print_tables(results: Results, console: Console) -> None:
    """Print the tables on a terminal, narrower than in the report."""
    for number, table in results["tables"].items():
        columns = _columns(table["rows"], with_deviation=False)
        for name in EXTRAS:
            columns.pop(name, None)
        shown = Table(
            title=f"Table {number}: {TITLES[number]}", title_justify="left", box=box.SIMPLE
        )
        for column in columns:
            is_name = column == "row"
            heading = column.replace("paper ", "paper\n").replace("base ", "base\n")
            shown.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name)
        for line in zip(*columns.values(), strict=True):
            shown.add_row(*line)
        console.print(shown)
        for row in table["rows"]:
            if row["share"]:
                of, share = row["share"]["of"], share_cell(row["share"])
                text = f"{row['name']}: {share} of the lift of {of}, GAUC minus its: "
                console.print(text + difference_cell(row["share"]), highlight=False)


def _columns(rows: Sequence[Row], *, with_deviation: bool = True) -> dict[str, list[str]]:
    """Lay out a table: its cells by the heading of their column."""
    columns = {"row": [row["name"] for row in rows]}
    if has_own_bases(rows):
        columns["base GAUC"] = [
            gauc_cell(row["base_gauc"], with_deviation=with_deviation) for row in rows
        ]
    columns["GAUC"] = [gauc_cell(row["gauc"], with_deviation=with_deviation) for row in rows]
    columns["lift"] = [lift_cell(row) for row in rows]
    columns["95 % interval"] = [
        MISSING if row["base"] is None else interval_cell(row["interval"]) for row in rows
    ]
    columns |= {name: [EXTRAS[name](row) for row in rows] for name in extras_of(rows)}
    columns["paper GAUC"], columns["paper lift"] = map(
        list, zip(*(paper_cells(row) for row in rows), strict=True)
    )
    return columns


def _reading(results: Results) -> str:
    seeds = results["seeds"]
    return (
        f"GAUC: mean ± standard deviation over {len(seeds)} seeds. Lift: mean paired difference to "
        "the base. Interval: 95 % of the lift, bootstrap over users and seeds together. The "
        "paper's figures are of another log: order can be compared with ours, sizes cannot."
    )


def _section(number: str, table: Mapping[str, Any]) -> str:
    rows = table["rows"]
    columns = _columns(rows)
    lines = zip(*columns.values(), strict=True)
    parts = [f"## Table {number}: {TITLES[number]}", markdown_table(list(columns), lines)]
    compared = [
        [f"{row['name']} over {other}", signed(lift["lift"]), interval_cell(lift["interval"])]
        for row in rows
        for other, lift in row["against"].items()
    ]
    if compared:
        parts.append(markdown_table(["paired difference", "GAUC", "95 % interval"], compared))
    parts.append(_counted(rows))
    notes = [f"- {row['name']}: {row['note']}" for row in rows if row["note"]]
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def _counted(rows: Sequence[Row]) -> str:
    counts = {row["name"]: f"{row['impressions']:,} of {row['users']:,} users" for row in rows}
    if len(set(counts.values())) == 1:
        return f"Test impressions of users with both classes: {next(iter(counts.values()))}."
    each = "; ".join(f"{name} {count}" for name, count in counts.items())
    return f"Test impressions of users with both classes: {each}."


def _circumstances(results: Results) -> str:
    return "## Circumstances\n\n" + "\n".join(f"- {line}" for line in circumstances_lines(results))


def circumstances_lines(results: Results) -> list[str]:
    """Say where the figures of one run come from, a line for each fact."""
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted(results["versions"].items())
    )
    plan = results.get("plan")
    return [
        f"log {results['log']['name']}, checksum `{results['log']['checksum']}`",
        f"plan `{plan['sha256']}`" if plan else "no plan was written down before",
        f"command `{results['command']}`, preset {results['preset']}",
        f"seeds {', '.join(str(seed) for seed in results['seeds'])}",
        f"date {results['date']}, commit {results['commit']}, {results['seconds'] / 60:,.0f} min",
        f"machine {results['machine']}",
        f"versions {versions}",
    ]


def beside_lines(results: Results, label: str = "") -> list[str]:
    """Say what was compared on days that train and tune: variants, arms and widths, if they were.

    ``label`` begins each heading.
    """
    sections = {
        "variants, on the tuning day": _variants(results.get("variants")),
        "knowledge joins a model that goes on": _arms(results.get("arms")),
        "quality at fewer bytes": _widths(results.get("widths")),
    }
    return [
        line
        for title, section in sections.items()
        if section
        for line in (f"## {label}{title}", *section)
    ]


def _variants(trials: Sequence[Mapping[str, Any]] | None) -> list[str]:
    by_name: dict[str, list[float]] = {}
    for trial in trials or ():
        by_name.setdefault(trial["method"].removeprefix("variant "), []).append(trial["gauc"])
    cells = [(name, gauc_cell(values)) for name, values in by_name.items()]
    header = ("plug-in; students, what is plugged in", "GAUC")
    return [markdown_table(header, cells)] if cells else []


def _arms(arms: Sequence[Row] | None) -> list[str]:
    if not arms:
        return []
    text = (
        "Base of the version's day goes on with the day after it, each batch scored before it is "
        "learned: progressive GAUC of that day, and its lift over going on without knowledge."
    )
    cells = [
        (
            arm["name"],
            gauc_cell(arm["gauc"]),
            signed(arm["lift"]),
            interval_cell(arm["interval"]),
        )
        for arm in arms
    ]
    return [text, markdown_table(("knowledge", "GAUC", "lift", "95 % interval"), cells)]


def _widths(widths: Mapping[str, Any] | None) -> list[str]:
    if not widths:
        return []
    text = (
        "Students of each width, distilled from one teacher, plugged in by chosen columns (the "
        "tasks' logits and K_uc): GAUC of the tuning day, and the share of the lift of the best "
        f"teacher's row ({gauc_cell(widths['teacher'])}; Base {gauc_cell(widths['base'])}). Bytes "
        "are a user's vector and pairs in f16. Correlations with the teacher are of click logits, "
        "within users whom distillation never drew. In bold: the fewest bytes within "
        f"{widths['least_loss']} GAUC of the best."
    )
    cells = []
    for place, row in enumerate(widths["rows"]):
        name = f"D {row['dim']}, D_c {row['category_dim']}"
        towers, category = (row["correlations"][s]["click"][2] for s in ("two_tower", "category"))
        cells.append(
            (
                f"**{name}**" if place == widths["good_enough"] else name,
                f"{row['bytes_per_user']:,.0f}",
                gauc_cell(row["gauc"]),
                f"{signed(row['lift'])} ({interval_cell(row['interval'])})",
                share_cell(row["share"]),
                *(MISSING if value is None else f"{value:.3f}" for value in (towers, category)),
            )
        )
    header = ("widths", "bytes a user", "GAUC", "lift (95 % interval)", "share")
    return [text, markdown_table((*header, "towers' correlation", "category's"), cells)]


def tuned_lines(results: Results) -> list[str]:
    """Say what was chosen for every method, and out of how many trials."""
    tried, collapsed = Counter[str](), Counter[str]()
    for trial in results["trials"]:
        tried[trial["method"]] += 1
        collapsed[trial["method"]] += has_collapsed(trial["gauc"].values())
    lines = [
        [
            method,
            str(tried[method]),
            str(collapsed[method]),
            ", ".join(f"{k} {v}" for k, v in sorted(chosen.items())),
        ]
        for method, chosen in sorted({**results["tuned"], **results.get("plug_ins", {})}.items())
    ]
    seeds = ", ".join(str(seed) for seed in results["tuning_seeds"])
    return [
        f"Tuning seeds {seeds}; every trial is in the JSON. A trial collapsed if it ranked by "
        f"chance under one of them (GAUC within {COLLAPSED} of a half).",
        markdown_table(("method", "trials", "of them collapsed", "chosen"), lines),
    ]
