"""Which runs make up which table: the paper's tables 2 to 8 as data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keep.config import TASKS
from keep.log import LogInfo
from keep.reproduce.controls import CONTROLS
from keep.reproduce.groups import Group
from keep.reproduce.paper import PAPER, TABLES
from keep.reproduce.results import Plan, PlannedRow

TRAINING, PRODUCTION, ALL_DAYS = "training", "production", "all"
"""On which days a downstream model is trained: the log's training days; the training days, from
Base's checkpoint of the version's day on; all days before the test."""

WHOLE = ("user", "item", *TASKS)
"""Parts of the teacher's K(u, i), equation 4."""

SERVED = ("f16", "int8")
"""Precisions in which knowledge is also tested as the service answers it."""

PLUG_INS = {
    "teacher": "teacher",
    "permuted": "teacher",
    "teacher_logits": "teacher_logits",
    "click_logit": "teacher_logits",
    "decomposition": "both",
    "degeneration": "both",
    "both": "both",
    "both_logits": "both_logits",
}
"""What is plugged in, and with which knowledge its plug-in was tuned: each with equal trials."""


@dataclass(frozen=True)
class Run:
    """One system, trained and tested once per seed; several tables may show it."""

    system: str
    """Name in ``SYSTEMS`` or ``CONTROLS``."""
    days: str = TRAINING
    task: int = 0
    """Position in ``TASKS``: what is predicted downstream."""
    knowledge: str = ""
    """What is plugged in, one of ``PLUG_INS``: the teacher's K(u, i), its three logits or that of
    the click alone, or the K(u, i) of a teacher that learned from labels permuted within each day;
    equation 6 of ``both`` students, or chosen columns of it: each task's logit and K_uc."""
    served: str = ""
    """One of ``SERVED``: tested with what the service answers in that precision."""
    parts: tuple[str, ...] = WHOLE
    """For the teacher's knowledge: which of its parts."""
    window: int = 0
    """For the teacher's knowledge: how many of the latest days it was pretrained on; 0 for all."""

    @property
    def name(self) -> str:
        """A file name of its own."""
        words = [self.system, self.days, TASKS[self.task], self.knowledge, self.served]
        if self.knowledge == "teacher" and self.parts != WHOLE:
            words.append("-".join(self.parts))
        if self.window:
            words.append(f"latest{self.window}")
        return ".".join(word for word in words if word)

    @property
    def has_seed(self) -> bool:
        """Whether chance is involved; a control without it has a single score."""
        return self.system not in CONTROLS or CONTROLS[self.system].has_seed


@dataclass(frozen=True)
class Entry:
    """What is stored and shown as one row of a table."""

    row: PlannedRow
    run: Run
    group: Group | None = None
    """Table 7: only these users."""
    is_shown: bool = True
    """Whether it is a row of its own; else it is only the base of another row."""


Entries = Mapping[str, Sequence[Entry]]

TEACHERS = ("KEEP", "KEEP, logits alone")
"""Table 8's rows with the teacher's knowledge."""

BASE = Run("base")
KEEP = Run("keep", knowledge="teacher")
BASE_ALL_DAYS = Run("base", ALL_DAYS)
PRODUCTION_KEEP = Run("keep", PRODUCTION, knowledge="teacher")
NO_KNOWLEDGE = Run("base", PRODUCTION)
ORACLE = Run("oracle")
PERMUTED = "KEEP, permuted labels"
"""Table 2's control that shows whether anything but taste reaches Base."""
TRAINED_ON = "teacher's click logit, trained on"
"""Table 2's control without a downstream model: one model for all scenes."""
COMPARED = {
    "Sample Merging": Run("sample_merging"),
    "CoNet": Run("conet"),
    "DARec": Run("darec"),
    "KEEP-C": Run("keep_c"),
    "BERT4Rec": Run("bert4rec"),
    "S3-Rec": Run("s3rec"),
}
"""Table 2's systems between Base and KEEP, by the name of their row; the paper may lack some."""


def make_plan(
    info: LogInfo,
    tables: Sequence[str],
    groups: Sequence[Group],
    with_truth: bool,
) -> Entries:
    """List the rows of some tables, in the paper's order; controls stand below.

    ``groups`` are table 7's, those by the same count one after another.
    """
    rows: dict[str, list[Entry]] = {
        "2": _compared(with_truth),
        "3": _kinds(),
        "4": _tasks(),
        "5": _downstream_tasks(),
        "6": _amounts(info),
        "7": _user_groups(groups),
        "8": _serving(),
    }
    return {table: rows[table] for table in TABLES if table in tables}


def runs_of(entries: Entries) -> tuple[Run, ...]:
    """Collect the runs behind some tables, each once."""
    return tuple(dict.fromkeys(entry.run for rows in entries.values() for entry in rows))


def shown(entries: Entries) -> Plan:
    """List the rows that are shown."""
    return {
        table: [entry.row for entry in rows if entry.is_shown] for table, rows in entries.items()
    }


def plug_ins_of(entries: Entries) -> tuple[str, ...]:
    """List the kinds of knowledge, beside the teacher's K(u, i), that plug-ins are tuned with."""
    kinds = {PLUG_INS[run.knowledge] for run in runs_of(entries) if run.knowledge}
    return tuple(sorted(kinds - {"teacher"}))


def windows(info: LogInfo) -> tuple[int, ...]:
    """Choose table 6's amounts of pretraining data, in latest days: one, a quarter, all of them.

    The paper has 1, 6 and 24 months.
    """
    days = sum(day <= info.pretrain_until for day in info.days)
    return tuple(sorted({1, max(1, round(days / 4)), days}))


def _compared(with_truth: bool) -> list[Entry]:
    controls = {
        "Base, all days": (BASE_ALL_DAYS, "the sub-domain's days before the test"),
        "Sample Merging, all days": (
            Run("sample_merging", ALL_DAYS),
            "the super-domain's days before the test",
        ),
        "Base with user id": (Run("base_with_user"), "an embedding as the teacher's"),
        "KEEP, click logit alone": (
            Run("keep", knowledge="click_logit"),
            "the teacher's, one column",
        ),
        PERMUTED: (
            Run("keep", knowledge="permuted"),
            "the teacher learned from labels permuted within each day",
        ),
        "teacher's click logit": (Run("teacher"), "no training day was learned from"),
        TRAINED_ON: (
            Run("teacher_trained_on"),
            "the teacher learned from the training days, too",
        ),
        "item click rate": (Run("item_rate"), "smoothed, up to the version's day"),
    }
    if with_truth:
        controls["oracle"] = (ORACLE, "the log's ground truth")
    compared = ("Base, all days", "Sample Merging, all days", "Base with user id", TRAINED_ON)
    others = (*COMPARED, *compared)
    entries = [_base(BASE)]
    entries += [
        _entry(name, run, paper=name if name in PAPER["2"] else None)
        for name, run in COMPARED.items()
    ]
    entries.append(_entry("KEEP", KEEP, paper="KEEP", against=others, transfer_of=TRAINED_ON))
    entries += [
        _entry(name, run, note=f"control: {note}") for name, (run, note) in controls.items()
    ]
    return entries


def _kinds() -> list[Entry]:
    k_u, k_ui = _with_parts("user"), _with_parts("user", "item")
    return [
        _base(BASE),
        _entry("K_u", k_u, paper="K_u"),
        _entry("K_u, K_i", k_ui, paper="K_u, K_i", against=("K_u",)),
        _entry("K_u, K_i, K_ui", KEEP, paper="K_u, K_i, K_ui", against=("K_u, K_i",)),
    ]


def _tasks() -> list[Entry]:
    click, both = "click", "click, conversion"
    return [
        _base(BASE),
        _entry(click, _with_parts("user", "item", "click"), paper=click),
        _entry(both, _with_parts("user", "item", *TASKS[:2]), paper=both, against=(click,)),
        _entry(f"{both}, cart", KEEP, paper=f"{both}, cart", against=(both,)),
    ]


def _downstream_tasks() -> list[Entry]:
    entries = []
    for name, task in (("CTR", "click"), ("CVR", "conversion"), ("CART", "cart")):
        number, base = TASKS.index(task), f"{name} Base"
        run = Run("keep", PRODUCTION, number, knowledge="teacher")
        entries.append(
            Entry(PlannedRow(base, None), replace(BASE_ALL_DAYS, task=number), None, False)
        )
        control = _no_knowledge(name, replace(NO_KNOWLEDGE, task=number), base)
        against = (control.row.name,)
        entries += [control, _entry(name, run, base=base, paper=name, against=against)]
    return entries


def _amounts(info: LogInfo) -> list[Entry]:
    *short, whole = windows(info)
    control = _no_knowledge("KEEP", NO_KNOWLEDGE)
    entries = [_base(BASE_ALL_DAYS), control]
    for paper, days in zip(("KEEP (1 month)", "KEEP (6 months)"), short, strict=False):
        run = replace(PRODUCTION_KEEP, window=days)
        note = f"of {whole} days; the paper's {paper[6:-1]} of 2 years"
        entries.append(_entry(f"KEEP (latest {days})", run, paper=paper, note=note))
    name = f"KEEP (all {whole} days)"
    against = (control.row.name,)
    entries.append(_entry(name, PRODUCTION_KEEP, paper="KEEP (2 years)", against=against))
    return entries


def _user_groups(groups: Sequence[Group]) -> list[Entry]:
    entries, controls = [], []
    for _, alike in itertools.groupby(groups, lambda group: group.counted):
        first, *others = alike
        for group in (first, *others):
            name, base = group.name, f"{group.name} Base"
            control = _no_knowledge(name, NO_KNOWLEDGE, base).row
            row = PlannedRow(
                name,
                base,
                name if name in PAPER["7"] else None,
                against=(control.name,),
                gains_less_than=first.name if others and group == others[-1] else None,
            )
            entries.append(Entry(PlannedRow(base, None), BASE_ALL_DAYS, group, is_shown=False))
            entries.append(Entry(row, PRODUCTION_KEEP, group))
            controls.append(Entry(control, NO_KNOWLEDGE, group))
    return [*entries, *controls]


def _serving() -> list[Entry]:
    both = "decomposition + degeneration"
    chosen = f"{both}, chosen columns"
    control = _no_knowledge("KEEP", NO_KNOWLEDGE)
    of: dict[str, Any] = {"transfer_of": TRAINED_ON}
    entries = [
        _base(BASE_ALL_DAYS),
        control,
        _entry("KEEP", PRODUCTION_KEEP, paper="KEEP", against=(control.row.name,), **of),
        _entry("KEEP, logits alone", _plugging("teacher_logits"), against=("KEEP",), **of),
    ]
    of["share_of"] = TEACHERS
    for name, knowledge, paper, note in (
        ("decomposition", "decomposition", "decomposition", "[K_u, K_i, K_u * K_i]"),
        ("degeneration", "degeneration", "degeneration", "the teacher's [K_u, K_i], and K_uc"),
        (both, "both", both, "equation 6, all of its columns"),
        (chosen, "both_logits", None, "of equation 6 each task's sum of K_u * K_i, and K_uc"),
    ):
        against = (both,) if name == chosen else ()
        run = _plugging(knowledge)
        entries.append(_entry(name, run, paper=paper, note=note, against=against, **of))
    for name, knowledge in ((both, "both"), (chosen, "both_logits")):
        for precision in SERVED:
            run = replace(_plugging(knowledge), served=precision)
            note = "tested through gkc-export and gkc serve"
            row = f"{name}, served {precision}"
            entries.append(_entry(row, run, note=note, against=(name,), **of))
    note = "control: the teacher learned from the training days, too"
    return [*entries, _entry(TRAINED_ON, Run("teacher_trained_on"), note=note)]


def _no_knowledge(name: str, run: Run, base: str = "Base") -> Entry:
    note = "control: Base to the version's day, then KEEP's options and a fresh Adam, no plug-in"
    return _entry(f"{name}, no knowledge", run, base, note=note)


def _plugging(knowledge: str) -> Run:
    return replace(PRODUCTION_KEEP, knowledge=knowledge)


def _with_parts(*parts: str) -> Run:
    return replace(KEEP, parts=parts)


def _base(run: Run) -> Entry:
    return Entry(PlannedRow("Base", None, "Base"), run)


def _entry(name: str, run: Run, base: str = "Base", **more: Any) -> Entry:  # noqa: ANN401
    """Make an entry that is shown, with more fields of its ``PlannedRow``."""
    return Entry(PlannedRow(name, base, deterministic=not run.has_seed, **more), run)
