"""Reproduce the paper's tables: tune, pretrain, train every system with every seed, and compare."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from keep.atomic import read_json, write_json, write_text
from keep.config import PretrainConfig
from keep.reproduce.arms import ARMS, Arm, compared
from keep.reproduce.circumstances import changed_since, circumstances
from keep.reproduce.controls import CONTROLS
from keep.reproduce.groups import user_groups
from keep.reproduce.jobs import (
    Encode,
    Pretrain,
    PretrainTrial,
    Test,
    Trial,
    chosen_options,
    chosen_pretraining,
    served_file,
)
from keep.reproduce.oracle import oracle_over_others
from keep.reproduce.paper import TABLES
from keep.reproduce.plan import PLUG_INS, Entries, Run, make_plan, plug_ins_of, runs_of, shown
from keep.reproduce.plots import draw_plots
from keep.reproduce.pool import Job, Pool, ReproductionError, workers
from keep.reproduce.presets import (
    PLACES,
    PRESETS,
    PRETRAINING_GRID,
    UNCHOSEN_VARIANTS,
    VARIANTS,
    WEIGHTINGS,
    Preset,
)
from keep.reproduce.registration import LEDGER_FILE, Registration, read_plan, record_read
from keep.reproduce.report import print_tables, report
from keep.reproduce.results import build_results, has_collapsed, write_results, write_rows
from keep.reproduce.rows import store_predictions
from keep.reproduce.statistics import UserScores, worth_its_cost
from keep.reproduce.trials import best_options, gaucs, trial_log, trial_scores
from keep.reproduce.widths import WidthComparison
from keep.reproduce.workshop import (
    STUDENTS,
    TEACHER,
    PretrainingPlan,
    Workshop,
)
from keep.systems.plugged import Options, Plugged
from keep.systems.registry import SYSTEMS

FIRST_TUNING_SEED = 1001
"""Tuning seeds start here, reported ones at 1: they never meet."""


def reproduce(
    log_path: Path,
    out: Path,
    tables: Sequence[str],
    preset_name: str,
    seeds: int | None = None,
    plan: Path | None = None,
    with_widths: bool = False,
) -> dict[str, Any]:
    """Do all that the tables need and is not done yet, then write and print the results.

    A folder that was begun with the same log, preset and seeds is gone on with. Each time that the
    test day is scored, a ledger is told before: the plan's, or the folder's own. A preset that
    needs a plan ends without one after the tuning day, with results that have no tables.
    ``with_widths`` compares narrower vectors there, too, and asks for table 8, whose plug-ins they
    need.

    Raises
    ------
    PlanError
        If the plan cannot be read, or is about another log or other trials.
    ReproductionError
        If the log has too few training days, or a job fails.
    WorkshopError
        If ``out`` holds another reproduction, or something else.
    """
    preset = PRESETS[preset_name]
    if seeds is not None:
        preset = dataclasses.replace(preset, seeds=seeds)
    registration = None if plan is None else read_plan(plan)
    work = _Work(log_path, out, preset_name, preset, registration)
    with closing(work.shop):
        return _reproduce(work, *work.begin(tables, with_widths))


def _reproduce(work: _Work, tables: Sequence[str], with_widths: bool) -> dict[str, Any]:
    shop, out = work.shop, work.out
    with shop.timed():
        entries = make_plan(shop.log.info, tables, user_groups(shop), shop.has_truth)
        with workers(work.log_path, out, shop.behaviours) as pool:
            work.tune(pool, entries)
            work.compare_variants(pool, entries)
            work.tune_plug_ins(pool, entries)
            widths = work.compare_widths(pool) if with_widths else None
            if work.reads_test_day:
                work.train(pool, entries)
            else:
                entries = {}
    store_predictions(shop, entries, work.seeds)
    write_rows(out, shown(entries))
    results = build_results(out, shown(entries), work.facts(tables))
    results["variants"] = work.variants(with_widths=with_widths)
    results["arms"] = work.arms()
    results["widths"] = widths
    results["served"] = work.served()
    results["oracle"] = oracle_over_others(out, entries, work.seeds)
    write_results(out, results)
    write_text(out / "report.md", report(results))
    draw_plots(results, out / "plots")
    console = Console()
    print_tables(results, console)
    if not work.reads_test_day:
        console.print("the test day was not scored: a plan was not named (--plan FILE)")
    console.print(f"results, report and plots: {out}", soft_wrap=True)
    return results


class _Work:
    """The stages of a reproduction."""

    def __init__(
        self,
        log_path: Path,
        out: Path,
        preset_name: str,
        preset: Preset,
        plan: Registration | None,
    ) -> None:
        self.log_path = log_path
        self.out = out
        self.preset_name = preset_name
        self.preset = preset
        self.plan = plan
        self.reads_test_day = plan is not None or not preset.needs_plan
        self.shop = Workshop(log_path, out, PretrainConfig.behaviours)
        self.seeds = tuple(range(1, preset.seeds + 1))
        self.tuning_seeds = tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + preset.tuning_seeds))
        self.variants_tried = dict(itertools.islice(VARIANTS.items(), preset.student_trials))

    def begin(self, tables: Sequence[str], with_widths: bool) -> tuple[tuple[str, ...], bool]:
        """Check that the folder is this reproduction's; return what it is to hold, as noted too."""
        info = self.shop.log.info
        if len(info.train_days) < 2:
            raise ReproductionError(
                self.log_path,
                f"has training days {list(info.train_days)}, but two are needed: options are "
                "chosen on the last of them, trained on those before",
            )
        if self.plan is not None:
            self.plan.check(info, self.preset.trials)
        facts = {
            "checksum": info.checksum,
            "preset": self.preset_name,
            "seeds": list(self.seeds),
        }
        noted = self.shop.claim(facts)
        with_widths = with_widths or noted.get("widths", False)
        named = {*tables, *noted.get("tables", ()), *(("8",) if with_widths else ())}
        all_tables = tuple(table for table in TABLES if table in named)
        self.shop.note({**facts, "tables": all_tables, "widths": with_widths})
        return all_tables, with_widths

    def tune(self, pool: Pool, entries: Entries) -> None:
        """Choose every system's options on the tuning day; Base's first, the others start there."""
        systems = self.systems(entries)
        chosen = read_json(self.out / "work" / "chosen.json")
        if {*systems, "pretraining"} <= set(chosen):
            return
        stage = "tuning"
        tried = self._pretraining_trials()
        day = self.shop.log.info.train_days[-1]
        encoders = self._encoders(systems, self.tuning_seeds, day)
        pool.run(stage, [*map(Pretrain, tried), *encoders, *self._trials("base")])
        pool.run(stage, list(map(PretrainTrial, tried)))
        self._try(pool, ["base"])
        chosen["pretraining"] = best_options(self.out, list(map(PretrainTrial, tried)))
        chosen["base"] = best_options(self.out, self._trials("base"))
        write_json(self.out / "work" / "chosen.json", chosen)
        others = [system for system in systems if system not in chosen]
        self._try(pool, others)
        chosen |= {system: best_options(self.out, self._trials(system)) for system in others}
        write_json(self.out / "work" / "chosen.json", chosen)

    def tune_plug_ins(self, pool: Pool, entries: Entries) -> None:
        """Choose a plug-in for each other kind of knowledge, out of as many as for K(u, i)."""
        chosen = read_json(self.out / "work" / "chosen.json")
        tuned = chosen.setdefault("plug-ins", {})
        for knowledge in plug_ins_of(entries):
            if knowledge not in tuned:
                self._try(pool, ["keep"], knowledge)
                tuned[knowledge] = best_options(self.out, self._trials("keep", knowledge))
                write_json(self.out / "work" / "chosen.json", chosen)

    def _try(self, pool: Pool, systems: Sequence[str], knowledge: str = "teacher") -> None:
        """Run the systems' trials, then those in place of collapsed ones, until none is left."""
        while todo := [
            trial
            for system in systems
            for trial in self._trials(system, knowledge)
            if not trial.file(self.out).exists()
        ]:
            pool.run("tuning", todo)

    def systems(self, entries: Entries) -> tuple[str, ...]:
        """List the systems that have options to choose."""
        planned = [run.system for run in runs_of(entries) if run.system not in CONTROLS]
        return tuple(dict.fromkeys(["base", *planned]))

    def _encoders(self, systems: Sequence[str], seeds: Sequence[int], day: int) -> list[Encode]:
        """List what pretrains the self-supervised systems."""
        pretrained = [system for system in systems if SYSTEMS[system].pretrain]
        return [Encode(system, seed, day) for system in pretrained for seed in seeds]

    def _pretraining_trials(self) -> list[PretrainingPlan]:
        grid = PRETRAINING_GRID[: self.preset.pretraining_trials]
        seed = FIRST_TUNING_SEED
        return [
            PretrainingPlan(f"trial-{number}", TEACHER, PretrainConfig(**{**values, "seed": seed}))
            for number, values in enumerate(grid)
        ]

    def _tuned_teacher(self) -> str:
        """Name the trial whose settings were chosen."""
        best = chosen_pretraining(self.out, FIRST_TUNING_SEED)
        return next(trial.name for trial in self._pretraining_trials() if trial.config == best)

    def _pretraining_of(self, knowledge: str) -> str:
        """Name the pretraining that was chosen for a kind of knowledge on the tuning day."""
        if knowledge.startswith("teacher"):
            return self._tuned_teacher()
        chosen = read_json(self.out / "work" / "chosen.json")["students"]
        tried = self._students()
        return next(
            tried[name].served for name, values in self.variants_tried.items() if values == chosen
        )

    def _trials(self, system: str, knowledge: str = "teacher") -> list[Trial]:
        """List a system's trials: for each that collapsed, there is another one at the end.

        ``knowledge`` is what is plugged into a system that takes some.
        """
        count, method, source = self.preset.trials, system, ("", "")
        if SYSTEMS[system].takes is Plugged:
            count -= self.preset.pretraining_trials + self.preset.student_trials
            source = (knowledge, self._pretraining_of(knowledge))
            method = system if knowledge == "teacher" else _plug_in(knowledge)
        base = chosen_options(self.out, "base")
        grid = SYSTEMS[system].grid(base)
        evenly = [grid[len(grid) * number // count] for number in range(min(count, len(grid)))]
        trials: list[Trial] = []
        for index, options in enumerate(
            dict.fromkeys([*evenly, *grid, *SYSTEMS[system].spares(base)])
        ):
            if count == 0:
                break
            seeds = self.tuning_seeds
            tried = [Trial(method, system, index, options, seed, *source) for seed in seeds]
            trials += tried
            count -= not has_collapsed(gaucs(self.out, tried))
        return trials

    def compare_variants(self, pool: Pool, entries: Entries) -> None:
        """Compare plug-ins and students on the tuning day, and choose the students."""
        if "keep" not in self.systems(entries):
            return
        stage = "variants"
        pretrained = [*self._students().values(), *self._weighed_teachers().values()]
        pool.run(stage, list(map(Pretrain, pretrained)))
        pool.run(stage, [*self._variant_trials(), *self._arms()])
        chosen = read_json(self.out / "work" / "chosen.json")
        if "students" not in chosen:
            tried = self.variants_tried
            worth = {variant: [self._variant_scores(variant)] for variant in tried}
            chosen["students"] = tried[worth_its_cost(worth)]
            write_json(self.out / "work" / "chosen.json", chosen)

    def _variant_scores(self, variant: str) -> UserScores:
        """Read how a variant ranked the tuning day with both students' knowledge."""
        method = f"variant {variant}, both"
        trials = [trial for trial in self._variant_trials() if trial.method == method]
        return trial_scores(self.out, trials)

    def _students(self) -> dict[str, PretrainingPlan]:
        config = chosen_pretraining(self.out, FIRST_TUNING_SEED)
        students = {}
        for variant, values in {**self.variants_tried, **UNCHOSEN_VARIANTS}.items():
            plan = PretrainingPlan.with_students(
                f"variant-{variant.replace(' ', '-')}", config, values
            )
            # What they learn from a teacher, they learn beside one, or at the freeze.
            is_taught = plan.config.distillation or plan.freeze
            students[variant] = plan if is_taught else dataclasses.replace(plan, models=STUDENTS)
        return students

    def _weighed_teachers(self) -> dict[str, PretrainingPlan]:
        if self.reads_test_day:
            return {}
        config = chosen_pretraining(self.out, FIRST_TUNING_SEED)
        return {
            name: PretrainingPlan(
                f"variant-{name.replace(' ', '-')}", TEACHER, dataclasses.replace(config, **values)
            )
            for name, values in WEIGHTINGS.items()
        }

    def _variant_trials(self) -> list[Trial]:
        options = chosen_options(self.out, "keep")
        assert isinstance(options, Options)
        teacher = self._tuned_teacher()
        tried = [
            (f"plug-in {name}", dataclasses.replace(options, **place), "teacher", teacher)
            for name, place in PLACES.items()
        ]
        tried += [
            (f"{variant}, {source}", options, source, pretrained.served)
            for variant, pretrained in self._students().items()
            for source in ("decomposition", "both")
        ]
        tried += [
            (f"{weighting}, teacher", options, "teacher", pretrained.name)
            for weighting, pretrained in self._weighed_teachers().items()
        ]
        return [
            Trial(f"variant {name}", "keep", 0, chosen, seed, source, pretrained)
            for name, chosen, source, pretrained in tried
            for seed in self.tuning_seeds
        ]

    def _arms(self) -> list[Arm]:
        teacher = self._tuned_teacher()
        return [Arm(arm, seed, teacher) for arm in ARMS for seed in self.tuning_seeds]

    def arms(self) -> list[dict[str, Any]]:
        """Hold the ways of joining knowledge to a model that goes on side by side."""
        if "keep" not in read_json(self.out / "work" / "chosen.json"):
            return []
        return compared(self.out, self.tuning_seeds, self._tuned_teacher())

    def compare_widths(self, pool: Pool) -> dict[str, Any]:
        """Compare widths and ways of distillation on the tuning day; nothing is chosen."""
        comparison = self._widths()
        stage = "widths"
        pool.run(stage, comparison.pretrainings())
        pool.run(stage, comparison.distillations())
        pool.run(stage, comparison.rankings(self.out))
        return comparison.table(self.out)

    def _widths(self) -> WidthComparison:
        config = chosen_pretraining(self.out, FIRST_TUNING_SEED)
        return WidthComparison(config, self._tuned_teacher(), self.tuning_seeds)

    def variants(self, *, with_widths: bool) -> list[dict[str, Any]]:
        """Collect what the comparison of variants found, and with them that of widths."""
        if "keep" not in read_json(self.out / "work" / "chosen.json"):
            return []
        trials = self._variant_trials()
        if with_widths:
            trials += self._widths().rankings(self.out)
        return [read_json(trial.file(self.out)) for trial in trials]

    def train(self, pool: Pool, entries: Entries) -> None:
        """Pretrain with every seed, then train and test every run, seed by seed."""
        pool.run("pretraining", self._pretrainings(entries))
        tests = [
            Test(run, seed)
            for seed in self.seeds
            for run in runs_of(entries)
            if run.has_seed or seed == self.seeds[0]
        ]
        left = {test.run for test in tests if not test.file(self.out).exists()}
        if left:
            self._record_read(entries, left)
        pool.run("training and testing", tests)

    def _record_read(self, entries: Entries, runs: set[Run]) -> None:
        ledger = self.out / LEDGER_FILE if self.plan is None else self.plan.ledger
        rows = {
            table: [entry.row.name for entry in some if entry.run in runs]
            for table, some in entries.items()
        }
        commit = circumstances()["commit"]
        record_read(ledger, self.shop.log.info, self.plan, commit, rows, self._changed())

    def _changed(self) -> list[str] | None:
        """List the files of code that are not as at the plan's commit."""
        return None if self.plan is None else changed_since(self.plan.commit)

    def _pretrainings(self, entries: Entries) -> list[Job]:
        runs = runs_of(entries)
        windows = sorted({run.window for run in runs if run.knowledge == "teacher"})
        needs_teacher = any(
            PLUG_INS.get(run.knowledge, "").startswith("teacher")
            or (run.system in CONTROLS and run.has_seed)
            for run in runs
        )
        needs_students = any(kind in ("both", "both_logits") for kind in plug_ins_of(entries))
        needs_permuted = any(run.knowledge == "permuted" for run in runs)
        jobs: list[Job] = []
        for seed in self.seeds:
            config = chosen_pretraining(self.out, seed)
            if needs_students:
                values = read_json(self.out / "work" / "chosen.json")["students"]
                # One pass for the teacher's rows and the students'.
                plan = PretrainingPlan.with_students(f"students-{seed}", config, values)
                jobs.append(Pretrain(plan))
            elif needs_teacher:
                jobs.append(Pretrain(PretrainingPlan(f"teacher-{seed}", TEACHER, config)))
            jobs += [
                Pretrain(PretrainingPlan(f"teacher-{seed}-latest{days}", TEACHER, config, days))
                for days in windows
                if days
            ]
            if needs_permuted:
                plan = PretrainingPlan(f"permuted-{seed}", TEACHER, config, permuted=True)
                jobs.append(Pretrain(plan))
        test_day = self.shop.log.info.test_day
        return [*jobs, *self._encoders(self.systems(entries), self.seeds, test_day)]

    def served(self) -> list[dict[str, Any]]:
        """Collect how many numbers came through exporter, store and service to the bit."""
        files = {seed: served_file(self.out, seed) for seed in self.seeds}
        return [{"seed": seed, **read_json(file)} for seed, file in files.items() if file.exists()]

    def facts(self, tables: Sequence[str]) -> dict[str, Any]:
        """Collect what stands beside the figures, as ``results.json`` has it.

        Returns
        -------
        dict
            ``command`` and ``preset``; ``log``, its ``LogInfo`` as a mapping; ``seeds`` that are
            reported, and ``tuning_seeds`` that options were chosen with; ``tuned``, the chosen
            options by method; ``trials``, every one of the tuning: method, options, day and GAUC;
            ``plug_ins``, the options chosen with other knowledge than K(u, i), and as many trials;
            ``plan``, the written one with its checksum, null where there is none, and ``changed``,
            the files of code that are not as at its commit, null where nobody knows; wall time of
            all stages in ``seconds``, those of earlier runs included; and ``circumstances``.
        """
        chosen = read_json(self.out / "work" / "chosen.json")
        pretraining, students = chosen.pop("pretraining"), chosen.pop("students", {})
        plug_ins = chosen.pop("plug-ins", {})
        if "keep" in chosen:
            chosen["keep"] |= {"pretraining": pretraining, "students": students}
        which = "all" if tuple(tables) == TABLES else ",".join(tables)
        return {
            "command": f"keep reproduce --log {self.log_path.name} --table {which} "
            f"--preset {self.preset_name} --seeds {len(self.seeds)}",
            "preset": self.preset_name,
            "log": dataclasses.asdict(self.shop.log.info),
            "seeds": self.seeds,
            "tuning_seeds": self.tuning_seeds,
            "tuned": chosen,
            "trials": [
                *(trial for method in chosen for trial in self._trial_log(method)),
                *(trial for knowledge in plug_ins for trial in self._plug_in_log(knowledge)),
            ],
            "plug_ins": {_plug_in(knowledge): options for knowledge, options in plug_ins.items()},
            "seconds": self.shop.seconds,
            "plan": None if self.plan is None else self.plan.facts,
            "changed": self._changed(),
            **circumstances(),
        }

    def _trial_log(self, method: str) -> list[dict[str, Any]]:
        """Collect a system's trials, each with its GAUC by tuning seed; pretraining is KEEP's."""
        trials: list[Trial | PretrainTrial] = list(self._trials(method))
        if SYSTEMS[method].takes is Plugged:
            trials += map(PretrainTrial, self._pretraining_trials())
            tried = {f"variant {variant}, both" for variant in self.variants_tried}
            trials += [trial for trial in self._variant_trials() if trial.method in tried]
        return trial_log(self.out, method, trials)

    def _plug_in_log(self, knowledge: str) -> list[dict[str, Any]]:
        return trial_log(self.out, _plug_in(knowledge), self._trials("keep", knowledge))


def _plug_in(knowledge: str) -> str:
    """Name the trials of KEEP's plug-in with another kind of knowledge than the teacher's."""
    return f"keep, {knowledge}"
