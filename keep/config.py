"""Settings of pretraining: one frozen dataclass, read from TOML by ``--config``."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keep.errors import ProblemError

MODELS = ("teacher", "two_tower", "category")
"""The models of a pretraining: the teacher of section 4.2 and the two students of section 5.2."""

TASKS = ("click", "conversion", "cart")
"""The pretraining tasks of KEEP section 4.2.2, in the order of every task axis in ``keep``."""

TOP_CATEGORIES = 100
"""Most shown categories that every user is exported with, unless ``keep bundle`` is told otherwise;
offline rows take as many. On the large simulated log, 20 of its 80 categories left 28 % of the
test impressions with the default vector."""


class ConfigError(ProblemError):
    """A training configuration that cannot be used."""


@dataclass(frozen=True)
class PretrainConfig:
    """How the teacher and its two students are built and trained.

    Widths, learning rate and loss weight are the paper's. Its batch of 2000 belongs to billions
    of impressions; on a log of a million it leaves too few steps, so the default is smaller.

    References
    ----------
    KEEP (CIKM'22), sections 4.2 and 6.2 (implementation details).
    """

    seed: int = 1
    """Seed of the initial weights, the shuffling, the partners and the replaced ids."""
    user_dim: int = 48
    """Width of a user id's embedding."""
    feature_dim: int = 16
    """Width of the embedding of every other feature (item, shop, category)."""
    embedding_std: float = 0.05
    """Standard deviation of fresh embeddings."""
    behaviours: int = 50
    """How many of a user's latest clicks are kept as the behaviour sequence."""
    attention_width: int = 16
    """Hidden units of the attention unit that scores one behaviour."""
    mlp: tuple[int, ...] = (512, 256, 128, 64)
    """Hidden layers of each task's private MLP; a two-logit layer follows."""
    category_width: int = 0
    """Numbers of K_uc for each task, the width of the category student's last hidden layer: 0 for
    that of ``mlp``; 1 for the task's logit alone, whatever the layer's width."""
    tower: tuple[int, ...] = (256, 128, 64)
    """Layers of one task's tower in the two-tower student; the last one is its knowledge."""
    batch_size: int = 512
    """Impressions in a step (2000 at the paper's scale)."""
    learning_rate: float = 0.001
    """Adam's learning rate for the teacher."""
    student_learning_rate: float = 0.001
    """Adam's learning rate for the students."""
    pair_weight: float = 0.25
    """Weight alpha of the pairwise loss (equation 3)."""
    pairs: str = "day"
    """Where the other item of equation 2's triplet comes from: ``day``, an impression of the same
    user and day with the opposite label; ``batch``, every positive with every negative of the
    batch, whosever they are."""
    weighting: str = "click_rate"
    """What each task's loss (equation 3) weighs in a step's, and each pair in a task's. The paper
    adds up, so that a task weighs as its samples are many; the sums are divided by the step's
    impressions, so that the learning rate does not depend on the batch size.
    ``click_rate``: conversion and cart, which are defined on clicks, weigh the step's clicks per
    impression. ``sums``: besides, each pair weighs as much as a point times ``pair_weight``,
    instead of the pairs' mean as much as the points'; every sample has at most one pair, as
    ``pairs = "batch"`` counts the mean over a sample's partners. ``means``: every task 1; a task's
    points and its pairs are averaged apart."""
    unknown_rate: float = 0.01
    """Share of ids replaced by the unknown row in training, so that it means something."""
    towers: str = "task"
    """Two-tower student: ``task``, a tower for each task; ``shared``, one for all tasks, whose
    product each task weighs with numbers of its own."""
    distillation: float = 0.0
    """Weight of the squared difference between a student's and the teacher's task logits, added
    to the students' losses; the teacher then learns each day first."""

    @property
    def item_dim(self) -> int:
        """Width of an item's features side by side: item, shop and category."""
        return 3 * self.feature_dim

    @property
    def dim(self) -> int:
        """Width D of the vectors of a user and of an item: the towers' outputs side by side."""
        return (len(TASKS) if self.towers == "task" else 1) * self.tower[-1]

    @property
    def category_dim(self) -> int:
        """Width D_c of a user-category vector: the layer before the logits, per task."""
        return len(TASKS) * (self.category_width or self.mlp[-1])

    @property
    def category_mlp(self) -> tuple[int, ...]:
        """Hidden layers of each task's private MLP in the category student."""
        return (*self.mlp[:-1], self.category_width) if self.category_width > 1 else self.mlp


@dataclass(frozen=True)
class DistillationConfig:
    """How the students of a checkpoint learn once more, from the frozen teacher alone."""

    pairs_per_user: int = 20
    """Pairs drawn, per user known, that were never shown; they are learned in several passes."""
    most_pairs: int = 131_072
    """Pairs drawn at most, however many users there are."""
    learning_rate: float = 0.003
    """Adam's learning rate."""
    task_weight: float = 1.0
    """Weight of conversion and of cart beside click."""
    hidden_weight: float = 0.0
    """Weight of the squared error of K_uc beside the teacher's mean K_ui over the category's most
    shown items."""
    train_tables: bool = False
    """Whether the tables of ids, which are the teacher's, are trained, too."""
    most_steps: int = 1000
    """Steps of a student at most."""
    most_minutes: float = 5.0
    """Minutes of a student at most, of its thread's CPU time."""


CHOICES = {
    "pairs": ("day", "batch"),
    "weighting": ("means", "click_rate", "sums"),
    "towers": ("task", "shared"),
}
"""Settings that are one of a few words."""

PRESETS = {"default": PretrainConfig(), "paper": PretrainConfig(batch_size=2000)}
"""Where a configuration starts: ``paper`` is for logs of the paper's size."""


def config_from_values(
    values: dict[str, object], source: str, preset: str = "default"
) -> PretrainConfig:
    """Check plain values, as TOML or JSON hold them; settings left out are the preset's.

    Raises
    ------
    ConfigError
        If a key is unknown, a value has another type than its setting or is out of range.
    """
    fields = {field.name: field for field in dataclasses.fields(PretrainConfig)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(source, f"unknown key {unknown[0]!r}; known: {', '.join(sorted(fields))}")
    checked = {name: _checked(name, value, source) for name, value in values.items()}
    return dataclasses.replace(PRESETS[preset], **checked)


def read_config(path: Path, preset: str = "default") -> PretrainConfig:
    """Read a TOML file of pretraining settings.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not TOML, or holds a wrong key or value.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(path, f"cannot be read ({exc.strerror}); check the path") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigError(path, f"is not TOML ({exc}); write lines like seed = 1") from exc
    return config_from_values(values, str(path), preset)


def _checked(name: str, value: Any, source: str) -> Any:  # noqa: ANN401 - of any setting
    """Return ``value`` as its setting's type, or raise ConfigError naming the setting."""
    kind = type(getattr(PretrainConfig, name))
    if name in CHOICES:
        fits, expected = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
    elif kind is tuple:
        fits = isinstance(value, list) and value != [] and all(_is_int(width, 1) for width in value)
        expected = "a list of positive integers"
    elif kind is float:
        limit, below = (math.inf, "") if name == "distillation" else (1, " and below 1")
        fits = (isinstance(value, float) or _is_int(value, 0)) and 0 <= value < limit
        expected = f"a number of at least 0{below}"
    elif name in ("seed", "category_width"):
        fits, expected = _is_int(value, 0), "an integer of at least 0"
    else:
        fits, expected = _is_int(value, 1), "a positive integer"
    if not fits:
        raise ConfigError(source, f"{name} must be {expected}")
    return kind(value)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
