"""A seeded simulator of shop behaviour with known ground truth, free of any licence.

Users have a latent taste that drifts by a stationary random walk, a lasting affinity to categories
and an inclination to click; items have a place in the same latent space near their category's, a
quality, a day on which they appear and an exposure that fades with age. What is shown follows
long-tailed activity and popularity, not taste. A click is drawn with probability

    sigmoid(base + scene + inclination + taste * strength + affinity + fit + quality + noise)

and, among clicks, a cart and a conversion by logits of their own that share taste and quality.
Fit says how well a category does in a scene: what differs between the scenes but for their level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from gkc.arrays import F64, I64
from keep.log import Columns, LogInfo
from keep.log_writer import LogWriter

FIRST_DAY_SECONDS = int(datetime(2021, 12, 1, tzinfo=UTC).timestamp())
"""Start of day 1, Unix seconds; the days follow each other in UTC."""
SECONDS_A_DAY = 86_400

SOURCE = (
    "Simulated by keep simulate, preset {of.preset}, seed {seed}: {of.users:,} users with a "
    "drifting latent taste (day-to-day correlation {of.taste_memory}), lasting category affinities "
    "and inclinations; {of.items:,} items with a latent place near their category's, a quality, a "
    "day of appearance and an exposure that fades with age. Shown by long-tailed activity and "
    "popularity, not by taste. Click by a logistic model with noise; cart and conversion among "
    "clicks. Super-domain: all scenes ({scenes}); sub-domain: scene {sub_domain}. The last day is "
    "the test day, with {of.test_impressions:,} further impressions of the sub-domain; the "
    "{of.training_days} days before it train, the last of them, the tuning day, with "
    "{of.tuning_impressions:,} further ones. Ground truth: truth/day=NNNN.parquet, row by row."
)


@dataclass(frozen=True)
class SimulatorConfig:
    """What is simulated; recorded in the log's ``params``."""

    preset: str = "small"
    users: int = 2_000
    items: int = 3_000
    categories: int = 30
    shops: int = 200
    days: int = 10
    impressions_per_day: int = 40_000
    test_impressions: int = 0
    """Further impressions of the sub-domain on the last day, so that intervals are narrow though
    training is short."""
    tuning_impressions: int = 0
    """Further impressions of the sub-domain on the day before, the tuning day: what is compared
    there is then seen, though training is short. Downstream models that are tested on the last day
    would train on them, too."""
    training_days: int = 2
    """Days before the test day that train downstream models; the last of them is the tuning day."""
    scenes: tuple[str, ...] = ("home", "search", "ads")
    """Names of the scenes; the last is the sub-domain."""
    scene_shares: tuple[float, ...] = (0.5, 0.2, 0.3)
    """Share of the impressions that each scene has."""
    scene_logits: tuple[float, ...] = (0.0, 0.6, -0.4)
    """What each scene adds to the logit of a click."""
    dim: int = 8
    """Width of the latent space."""
    user_tail: float = 0.7
    """Exponent of the Zipf law of users' activity."""
    item_tail: float = 0.9
    """Exponent of the Zipf law of items' popularity."""
    category_tail: float = 0.8
    """Exponent of the Zipf law of the categories' sizes; shops have the same."""
    taste_memory: float = 0.97
    """Correlation of a taste with that of the day before."""
    taste_strength: float = 1.2
    """Standard deviation of taste in the logit of a click."""
    affinity_deviation: float = 0.6
    """Standard deviation of a user's lasting affinity to a category."""
    fit_deviation: float = 0.0
    """Standard deviation of a category's fit to a scene."""
    quality_deviation: float = 0.5
    inclination_deviation: float = 0.5
    noise_deviation: float = 0.5
    """Standard deviation of what nobody can know about an impression."""
    new_item_share: float = 0.3
    """Share of the items that appear after day 1."""
    item_age_days: float = 20.0
    """Age at which an item's exposure has fallen to 1/e."""
    click_base: float = -1.6
    cart_base: float = -1.0
    conversion_base: float = -2.0


_LARGE = SimulatorConfig(
    preset="large",
    users=8_000,
    items=12_000,
    categories=80,
    shops=1_000,
    days=21,
    impressions_per_day=120_000,
    test_impressions=280_000,
    scenes=("home", "search", "video", "ads"),
    scene_shares=(0.45, 0.25, 0.15, 0.15),
    scene_logits=(0.0, 0.6, 0.2, -0.4),
    fit_deviation=0.3,
)
# Categories stay as many: a user has as few clicks in each as in the large one.
_HALF = dataclasses.replace(
    _LARGE,
    preset="half",
    users=4_000,
    items=6_000,
    shops=500,
    impressions_per_day=60_000,
    test_impressions=140_000,
)
# Pretraining has as many days as in the others, and so have models that are tested on the tuning
# day; the test day is never scored.
_DEVELOPMENT = dataclasses.replace(
    _HALF,
    preset="development",
    days=22,
    training_days=3,
    tuning_impressions=150_000,
    test_impressions=0,
)
PRESETS = {config.preset: config for config in (SimulatorConfig(), _LARGE, _HALF, _DEVELOPMENT)}
"""Sizes on offer: small for a try and for tests, large and half for the figures of
docs/reproduction.md, development for what is chosen before those are read."""


class World:
    """Users and items of a simulation, as they are on one day, counted from 1.

    The users' tastes on that day, (users, dim), have variance 1 in each component.
    """

    def __init__(self, config: SimulatorConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.day = 1
        rng = np.random.default_rng([seed, 0])
        self.taste: F64 = rng.standard_normal((config.users, config.dim))
        self.activity = _zipf(rng, config.users, config.user_tail)
        self.inclination = config.inclination_deviation * rng.standard_normal(config.users)
        shape = (config.users, config.categories)
        self.affinity = config.affinity_deviation * rng.standard_normal(shape)
        self._make_items(rng)
        shape = (len(config.scenes), config.categories)
        self.fit = config.fit_deviation * np.random.default_rng([seed, 3]).standard_normal(shape)

    def _make_items(self, rng: np.random.Generator) -> None:
        config = self.config
        sizes = _zipf(rng, config.categories, config.category_tail)
        self.category: I64 = rng.choice(config.categories, config.items, p=sizes)
        shops = _zipf(rng, config.shops, config.category_tail)
        self.shop: I64 = rng.choice(config.shops, config.items, p=shops)
        centres = rng.standard_normal((config.categories, config.dim))
        offsets = rng.standard_normal((config.items, config.dim))
        self.place = (centres[self.category] + offsets) / np.sqrt(2.0 * config.dim)
        self.quality = config.quality_deviation * rng.standard_normal(config.items)
        self.price = rng.standard_normal(config.items)
        self.popularity = _zipf(rng, config.items, config.item_tail)
        appears = rng.integers(2, max(config.days, 2) + 1, config.items)
        old = rng.random(config.items) >= config.new_item_share
        age_at_start = rng.exponential(config.item_age_days, config.items)
        self.appears: F64 = np.where(old, 1.0 - age_at_start, appears)

    def next_day(self) -> None:
        """Let a night pass: tastes drift, items age."""
        self.day += 1
        rng = np.random.default_rng([self.seed, 1, self.day])
        memory = self.config.taste_memory
        step = rng.standard_normal(self.taste.shape)
        self.taste = memory * self.taste + np.sqrt(1.0 - memory**2) * step

    def exposure(self) -> F64:
        """Return how likely each item is to be shown today, (items,); 0 for those not there yet."""
        age = self.day - self.appears
        weight = np.where(age >= 0, self.popularity * np.exp(-age / self.config.item_age_days), 0)
        return np.asarray(weight / weight.sum(), dtype=np.float64)

    def impressions(self) -> tuple[Columns, Columns]:
        """Draw the day's impressions.

        Returns
        -------
        columns : dict of str to ndarray, shape (n,)
            What a log holds, in the order of time; ids count from 1.
        truth : dict of str to ndarray, shape (n,), float32
            What no log holds: the probabilities drawn from, and the parts of the click's logit.
        """
        config = self.config
        further = self._further_impressions()
        count = config.impressions_per_day + further
        rng = np.random.default_rng([self.seed, 2, self.day])
        user = rng.choice(config.users, count, p=self.activity)
        item = rng.choice(config.items, count, p=self.exposure())
        scene = rng.choice(len(config.scenes), count, p=config.scene_shares)
        if further:
            scene[rng.choice(count, further, replace=False)] = len(config.scenes) - 1
        second = np.sort(rng.integers(0, SECONDS_A_DAY, count))
        truth = self._truth(user, item, scene, rng)
        click = rng.random(count) < truth["click_probability"]
        columns: Columns = {
            "user": user + 1,
            "item": item + 1,
            "shop": self.shop[item] + 1,
            "category": self.category[item] + 1,
            "time": FIRST_DAY_SECONDS + (self.day - 1) * SECONDS_A_DAY + second,
            "scene": scene,
            "click": click,
            "cart": click & (rng.random(count) < truth["cart_probability"]),
            "conversion": click & (rng.random(count) < truth["conversion_probability"]),
        }
        return columns, truth

    def _further_impressions(self) -> int:
        config = self.config
        by_day = {config.days: config.test_impressions, config.days - 1: config.tuning_impressions}
        return by_day.get(self.day, 0)

    def _truth(self, user: I64, item: I64, scene: I64, rng: np.random.Generator) -> Columns:
        config = self.config
        closeness = np.einsum("ij,ij->i", self.taste[user], self.place[item])
        taste = config.taste_strength * closeness
        affinity = self.affinity[user, self.category[item]]
        quality, price = self.quality[item], self.price[item]
        noise = config.noise_deviation * rng.standard_normal(len(user))
        shift = config.click_base + np.array(config.scene_logits)[scene] + self.inclination[user]
        fit = self.fit[scene, self.category[item]]
        score = shift + taste + affinity + fit + quality
        cart = config.cart_base + 0.7 * taste + quality + 0.5 * noise
        conversion = config.conversion_base + 0.7 * taste + quality - 0.5 * price + 0.5 * noise
        truth = {
            "click_probability": _sigmoid(score + noise),
            "cart_probability": _sigmoid(cart),
            "conversion_probability": _sigmoid(conversion),
            "score": score,
            "taste": taste,
            "affinity": affinity,
            "fit": fit,
            "quality": quality,
            "noise": noise,
        }
        return {name: column.astype(np.float32) for name, column in truth.items()}


def simulate(
    config: SimulatorConfig, seed: int, out: Path, advance: Callable[[int], object]
) -> None:
    """Simulate and write a log, with its ground truth beside it; each day written is told.

    The same seed, at least 0, parameters and NumPy give the same columns, bit for bit.

    Raises
    ------
    LogPathTakenError
        If ``out`` holds something else.
    """
    world = World(config, seed)
    with LogWriter(out, _info(config, seed)) as writer:
        for day in range(1, config.days + 1):
            columns, truth = world.impressions()
            writer.write(day, columns, config.scenes)
            table = pa.table({name: pa.array(column) for name, column in truth.items()})
            writer.write_beside(f"truth/day={day:04d}.parquet", table)
            world.next_day()
            advance(1)


def log_name(config: SimulatorConfig) -> str:
    """Return the name of a simulated log."""
    return f"simulated-{config.preset}"


def _info(config: SimulatorConfig, seed: int) -> LogInfo:
    source = SOURCE.format(
        of=config, seed=seed, scenes=", ".join(config.scenes), sub_domain=config.scenes[-1]
    )
    first = config.days - config.training_days
    return LogInfo(
        name=log_name(config),
        source=source,
        sub_domain_scenes=(config.scenes[-1],),
        pretrain_until=first - 1,
        train_days=tuple(range(first, config.days)),
        test_day=config.days,
        licence="none: made from random numbers, free to use and to pass on",
        seed=seed,
        params=dataclasses.asdict(config),
    )


def _zipf(rng: np.random.Generator, count: int, exponent: float) -> F64:
    """Share 1 among ``count`` by a Zipf law, in random order, so that ids tell nothing."""
    weight = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(rng.permutation(weight / weight.sum()), dtype=np.float64)


def _sigmoid(logit: F64) -> F64:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)
