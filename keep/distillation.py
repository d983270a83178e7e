"""Students that learn once more at the freeze: from the frozen teacher, over pairs never shown.

While a log is learned from, students see each lesson of the teacher once, beside labels, from a
teacher that still changes, about what was shown. Before their vectors are exported they learn what
the teacher says now of any pair: no label, and nothing later than the checkpoint's day, is used.
KEEP (CIKM'22) leaves this out; see docs/paper.md.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gkc.arrays import I64
from gkc.progress import progress
from keep.category import CategoryStudent
from keep.checkpoint import CELLS, Distillation, Pretraining, StudentLesson, require_ids
from keep.config import TASKS, DistillationConfig, PretrainConfig
from keep.din import Teacher
from keep.errors import ProblemError
from keep.features import PADDING, UNKNOWN, Features
from keep.log import Log
from keep.losses import block_loss
from keep.models import Models
from keep.pairs import Block, FreePairs, shown_until
from keep.threads import one_thread_each
from keep.two_tower import TwoTower

Student = TwoTower | CategoryStudent

STUDENTS = ("two_tower", "category")
BLOCK = (32, 32)
"""Users and items of a training step."""
FEWEST_BLOCKS = 8
"""However few users there are."""
TEST_BLOCKS = 4
TEST_BLOCK = (64, 32)
"""Users and items of a test block that may be drawn; as many of each that never are."""
PLAIN_WEIGHT = 0.1
"""Weight of the squared error of logits as they are, beside that within a user."""
HIDDEN_ITEMS = 16
"""Items of a category whose mean K_ui its K_uc is compared with, at most."""
HIDDEN_CATEGORIES = 2
"""Categories of a block that it is compared for, at most."""
STEPS_A_TEST = 50
PATIENCE = 3
"""Tests in a row without a gain, after which a student has learned enough."""
LEAST_GAIN = 0.001
"""Rise of the mean correlation that counts as one."""
FEWEST_IDS = 20
"""Users, and items, without which there is nothing to draw and to hold out."""
FEWEST_PAIRS = 100


class DistillationError(ProblemError):
    """Students that cannot be distilled, for what their checkpoint or log is."""


class Lesson(NamedTuple):
    """A block of pairs, and what the teacher says of them."""

    user: Tensor
    """(B,) rows of the user table."""
    behaviours: Tensor
    """(B, T) item rows as of the checkpoint's day."""
    items: Tensor
    """(G, 3) rows of the item, shop and category tables."""
    free: Tensor
    """(B, G) bool, whether the pair counts."""
    logits: Tensor
    """(B, G, tasks) the teacher's."""
    categories: Tensor
    """(C,) rows of the category table whose K_uc is compared, too."""
    hidden: Tensor
    """(B, C, D_c) the teacher's mean K_ui over items of these."""


class Test(NamedTuple):
    """Lessons that nobody learns from, and which of their users and items training may draw."""

    lessons: list[Lesson]
    held_users: list[Tensor]
    """(B,) bool for each lesson."""
    held_items: list[Tensor]
    """(G,) bool for each lesson."""


def distil(state: Pretraining, log: Log, settings: DistillationConfig | None = None) -> Pretraining:
    """Teach copies of a checkpoint's students; the state itself stays as it is.

    Of the log, users and items of impressions up to the checkpoint's day are read, no labels.
    The result has the same teacher and no optimizers: bundles are made of it, no further day is
    learned. The seed of the pretraining fixes all chance.

    Raises
    ------
    DistillationError
        If the students have been distilled already, a model is missing, or there are too few ids.
    LogSchemaError
        If a row of the log breaks the schema.
    OtherIdsError
        If its ids are not of the types of those pretrained on.
    """
    settings = settings or DistillationConfig()
    _check(state, settings)
    require_ids(state, log)
    features, teacher = state.features, state.models.teacher
    shown = shown_until(features, log, state.day)
    if len(shown.pairs) == 0:
        problem = f"shows none of the checkpoint's users and items up to day {state.day}"
        raise DistillationError(f"log {log.path}", f"{problem}; name the log pretrained on")
    rng = np.random.default_rng([state.config.seed, state.day])
    pairs = FreePairs(features, shown, rng)
    test = _test(pairs, features, teacher, rng)
    users = len(features.users) - UNKNOWN - 1
    wanted = min(settings.pairs_per_user * users, settings.most_pairs)
    blocks = _training_blocks(pairs, wanted, rng)
    of_categories = pairs.most_shown(HIDDEN_ITEMS) if settings.hidden_weight else None
    lessons = _lessons(blocks, features, teacher, of_categories)
    models = copy.deepcopy(state.models, {id(teacher): teacher})  # which shares the teacher
    done = _teach_both(models, lessons, test, state.config, settings)
    drawn = sum(int(block.free.sum()) for block in blocks)
    report = Distillation(dataclasses.asdict(settings), drawn, drawn / users, done)
    return dataclasses.replace(state, models=models, optimizers={}, distillation=report)


def distilled(state: Pretraining, log: Log) -> Pretraining:
    """Return a state with distilled students: itself, if they are so already."""
    return state if state.distillation else distil(state, log)


def _check(state: Pretraining, settings: DistillationConfig) -> None:
    subject, names = f"checkpoint of day {state.day}", ("teacher", *STUDENTS)
    if settings.hidden_weight and state.config.category_width:
        problem = "its K_uc is narrower than the teacher's K_ui; leave the hidden weight at 0"
        raise DistillationError(subject, problem)
    if state.distillation is not None:
        raise DistillationError(subject, "its students are distilled already; use it as it is")
    missing = [name for name in names if name not in state.models.trained]
    if missing:
        raise DistillationError(subject, f"has no {missing[0]}; pretrain with all of {names}")
    known = min(len(state.features.users), len(state.features.items)) - UNKNOWN - 1
    if known < FEWEST_IDS:
        problem = f"knows {known} users or items, fewer than {FEWEST_IDS}; bundle it --no-distil"
        raise DistillationError(subject, problem)


def _test(pairs: FreePairs, features: Features, teacher: Teacher, rng: np.random.Generator) -> Test:
    blocks = [pairs.test_block(*TEST_BLOCK, rng) for _ in range(TEST_BLOCKS)]
    return Test(
        _lessons(blocks, features, teacher),
        [torch.from_numpy(np.isin(block.users, pairs.held_users.rows)) for block in blocks],
        [torch.from_numpy(np.isin(block.items[:, 0], pairs.held_items.rows)) for block in blocks],
    )


def _training_blocks(pairs: FreePairs, wanted: int, rng: np.random.Generator) -> Sequence[Block]:
    """Draw as many blocks as hold no more pairs than are wanted."""
    # Where nearly every pair was shown, blocks are nearly empty: there is an end to drawing.
    most = max(FEWEST_BLOCKS, 4 * wanted // math.prod(BLOCK))
    blocks: list[Block] = []
    drawn = 0
    while len(blocks) < FEWEST_BLOCKS or (
        drawn + math.prod(BLOCK) <= wanted and len(blocks) < most
    ):
        blocks.append(pairs.training_block(*BLOCK, rng))
        drawn += int(blocks[-1].free.sum())
    if drawn < FEWEST_PAIRS:
        problem = f"only {drawn} pairs drawn were never shown, of {FEWEST_PAIRS} that it takes"
        raise DistillationError("distillation", f"{problem}; bundle it --no-distil")
    return blocks


def _lessons(
    blocks: Sequence[Block], features: Features, teacher: Teacher, of_categories: I64 | None = None
) -> list[Lesson]:
    """Ask the teacher about blocks; ``of_categories`` as for ``_lesson``."""
    with (
        progress("the teacher's answers", len(blocks)) as advance,
        one_thread_each(torch.get_num_threads()) as pool,
    ):

        def lesson(block: Block) -> Lesson:
            advance(1)
            return _lesson(block, features, teacher, of_categories)

        return list(pool.map(lesson, blocks))


def _lesson(
    block: Block, features: Features, teacher: Teacher, of_categories: I64 | None = None
) -> Lesson:
    """Ask the teacher; ``of_categories`` are (categories, n) items of each, padded behind."""
    user, items = torch.from_numpy(block.users), torch.from_numpy(block.items)
    behaviours = torch.from_numpy(features.history[block.users].astype(np.int64))
    with torch.no_grad():
        logits = teacher.block_logits(user, behaviours, items)
    free = torch.from_numpy(block.free)
    if of_categories is None:
        return Lesson(user, behaviours, items, free, logits, items[:0, 2], logits[:, :0])
    categories = np.unique(block.items[:HIDDEN_CATEGORIES, 2])
    chosen = of_categories[categories]  # (C, n)
    triples = torch.from_numpy(features.item_triples(chosen.reshape(-1)))
    with torch.no_grad():
        shared = teacher.shared(user, behaviours, triples.expand(len(user), -1, -1))
        k_ui = teacher.all_knowledge(shared).view(len(user), *chosen.shape, -1)
    there = torch.from_numpy(chosen != PADDING).unsqueeze(-1)
    hidden = (k_ui * there).sum(dim=2) / there.sum(dim=1)
    return Lesson(user, behaviours, items, free, logits, torch.from_numpy(categories), hidden)


class Stopping:
    """Keeps the best trained weights of a model, and tells when it gains no more."""

    def __init__(self, model: nn.Module) -> None:
        self.best = -math.inf
        """Score of the weights that are kept."""
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._kept: list[Tensor] = []
        self._reached = -math.inf
        self._without_gain = 0

    def gains(self, score: float) -> bool:
        """Take the score of the weights as they are; False after ``PATIENCE`` without a gain."""
        if score > self.best:
            self.best, self._kept = score, [weight.detach().clone() for weight in self._trained]
        gained = score > self._reached + LEAST_GAIN
        self._without_gain = 0 if gained else self._without_gain + 1
        self._reached = score if gained else self._reached
        return self._without_gain < PATIENCE

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the best weights again."""
        for weight, kept in zip(self._trained, self._kept, strict=True):
            weight.copy_(kept)


def _teach_both(
    models: Models,
    lessons: Sequence[Lesson],
    test: Test,
    config: PretrainConfig,
    settings: DistillationConfig,
) -> dict[str, StudentLesson]:
    """Teach the students at the same time, each in a thread of its own."""
    stop = Event()
    students: dict[str, Student] = {"two_tower": models.two_tower, "category": models.category}
    with (
        progress("distillation", settings.most_steps * len(students)) as advance,
        one_thread_each(len(students)) as pool,
    ):
        try:
            futures = {
                name: pool.submit(
                    _teach, student, models.teacher, lessons, test, config, settings, advance, stop
                )
                for name, student in students.items()
            }
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()  # after an error or Ctrl-C, the other student ends its step
            raise


def _teach(
    student: Student,
    teacher: Teacher,
    lessons: Sequence[Lesson],
    test: Test,
    config: PretrainConfig,
    settings: DistillationConfig,
    advance: Callable[[int], object],
    stop: Event,
) -> StudentLesson:
    """Teach one student until it gains no more, and leave it with its best weights.

    Those may be the ones that it had before.
    """
    began, worked = time.perf_counter(), time.thread_time()
    before, was = _correlations(student, test), copy.deepcopy(student.state_dict())
    _start(student, teacher, settings.train_tables)
    trained = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=settings.learning_rate, fused=True)
    loss = _Loss(lessons, settings)
    stopping = Stopping(student)
    rng = np.random.default_rng([config.seed, len(lessons)])
    for steps, lesson in enumerate(_in_passes(lessons, rng), start=1):
        total = loss(student, lesson, *_with_unknown(lesson, config.unknown_rate, rng))
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
        late = time.thread_time() - worked > 60 * settings.most_minutes
        last = late or stop.is_set() or steps == settings.most_steps
        if (last or steps % STEPS_A_TEST == 0) and (
            not stopping.gains(_score(_correlations(student, test))) or last
        ):
            break
    if stopping.best > _score(before):
        stopping.restore()
    else:
        student.load_state_dict(was)
    seconds = time.perf_counter() - began
    return StudentLesson(steps, seconds, before, _correlations(student, test))


def _in_passes(lessons: Sequence[Lesson], rng: np.random.Generator) -> Iterator[Lesson]:
    """Go through the lessons again and again, each time in another order."""
    while True:
        for place in rng.permutation(len(lessons)):
            yield lessons[place]


def _start(student: Student, teacher: Teacher, train_tables: bool) -> None:
    """Give a student the teacher's tables, and of its layers those that fit."""
    if isinstance(student, CategoryStudent):
        student.start_from(teacher)
    student.user.load_state_dict(teacher.user.state_dict())
    student.features.load_state_dict(teacher.features.state_dict())
    for tables in (student.user, student.features):
        tables.requires_grad_(train_tables)


class _Loss:
    """The tasks' squared errors in units of the teacher's deviations, weighted and added up."""

    def __init__(self, lessons: Sequence[Lesson], settings: DistillationConfig) -> None:
        logits = torch.cat([lesson.logits[lesson.free] for lesson in lessons])
        self._deviation = logits.std(dim=0).clamp(min=1e-6)  # (tasks,)
        self._weights = torch.tensor([1.0, *[settings.task_weight] * (len(TASKS) - 1)])
        self._hidden_weight = settings.hidden_weight

    def __call__(
        self, student: Student, lesson: Lesson, user: Tensor, behaviours: Tensor, items: Tensor
    ) -> Tensor:
        """Compare a student that is shown these with the teacher, who was shown the lesson."""
        logits = student.block_logits(user, behaviours, items)
        difference = (logits - lesson.logits) / self._deviation
        loss = self._weights @ block_loss(difference, lesson.free, PLAIN_WEIGHT)
        if self._hidden_weight and isinstance(student, CategoryStudent):
            categories = lesson.categories.expand(len(user), -1)
            k_uc = student.all_knowledge(student.shared(user, behaviours, categories))
            error = (k_uc - lesson.hidden).square().mean() / lesson.hidden.var().clamp(min=1e-6)
            loss = loss + self._hidden_weight * error
        return loss


def _with_unknown(
    lesson: Lesson, rate: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Make a share of a lesson's users and items unknown, as they are served then.

    An unknown user has no behaviours, an unknown item neither shop nor category.
    """
    user, items = (
        torch.from_numpy(rng.random(len(rows)) < rate) for rows in (lesson.user, lesson.items)
    )
    return (
        lesson.user.masked_fill(user, UNKNOWN),
        lesson.behaviours.masked_fill(user.unsqueeze(1), PADDING),
        lesson.items.masked_fill(items.unsqueeze(1), UNKNOWN),
    )


def _correlations(student: Student, test: Test) -> dict[str, list[float]]:
    """Correlate a student's logits with the teacher's within each user: per task, for ``CELLS``."""
    cells: list[list[Tensor]] = [[] for _ in CELLS]
    for lesson, held_user, held_item in zip(*test, strict=True):
        with torch.no_grad():
            logits = student.block_logits(lesson.user, lesson.behaviours, lesson.items)
        for place, cell in enumerate(cells):
            users, items = held_user == bool(place & 2), held_item == bool(place & 1)
            parts = (part[users][:, items] for part in (logits, lesson.logits, lesson.free))
            cell.append(user_correlations(*parts))
    means = torch.stack([torch.cat(cell).nanmean(dim=0) for cell in cells], dim=1)  # (tasks, 4)
    return dict(zip(TASKS, means.tolist(), strict=True))


def user_correlations(logits: Tensor, others: Tensor, free: Tensor) -> Tensor:
    """Correlate each user's logits, (B, G, tasks), with others, over pairs that are ``free``.

    Returns
    -------
    Tensor, shape (B, tasks), float32
        NaN where either are the same for all items.
    """
    mask = free.unsqueeze(-1).to(logits.dtype)
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    x, y = ((z - (z * mask).sum(dim=1, keepdim=True) / count) * mask for z in (logits, others))
    return (x * y).sum(dim=1) / torch.sqrt(x.square().sum(dim=1) * y.square().sum(dim=1))


def _score(correlations: dict[str, list[float]]) -> float:
    """Reduce correlations to one number: the click task's mean over the cells."""
    return float(np.nanmean(correlations[TASKS[0]]))
