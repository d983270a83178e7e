from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from keep.gauc import gauc
from keep.log import SCHEMA, Day, Log, open_log
from keep.sources.simulator import PRESETS, SimulatorConfig, World, simulate

CONFIG = dataclasses.replace(
    PRESETS["small"], users=500, items=800, days=6, impressions_per_day=20_000
)


def _ignore(amount: int) -> None:
    """Take progress and show nothing."""
    assert amount == 1


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    path = tmp_path_factory.mktemp("simulated") / "log"
    simulate(CONFIG, 7, path, _ignore)
    return open_log(path)


def _truth(log: Log, day: int, column: str) -> NDArray[np.float32]:
    return np.array(pq.read_table(log.path / "truth" / f"day={day:04d}.parquet").column(column))


def _top_share(ids: NDArray[np.int64], count: int) -> float:
    """Share of the impressions that the busiest 1 % of all ids have."""
    sizes = np.sort(np.bincount(ids, minlength=count))[::-1]
    return float(sizes[: count // 100].sum() / sizes.sum())


def test_the_same_seed_gives_the_same_bytes(log: Log, tmp_path: Path) -> None:
    simulate(CONFIG, 7, tmp_path / "again", _ignore)
    again = open_log(tmp_path / "again")
    assert again.info == log.info
    for number in log.info.days:
        one, two = log.table(number), again.table(number)
        for name in SCHEMA.names:
            assert one.column(name).equals(two.column(name))


def test_another_seed_gives_another_log(log: Log, tmp_path: Path) -> None:
    simulate(CONFIG, 8, tmp_path / "other", _ignore)
    assert open_log(tmp_path / "other").info.checksum != log.info.checksum


def test_seed_and_parameters_are_recorded(log: Log) -> None:
    assert log.info.seed == 7
    recorded: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in log.info.params.items()
    }
    assert SimulatorConfig(**recorded) == CONFIG
    assert "seed 7" in log.info.source
    assert (log.info.pretrain_until, log.info.train_days, log.info.test_day) == (3, (4, 5), 6)


def test_users_and_items_have_long_tails(log: Log) -> None:
    days = list(log.days(1, CONFIG.days))
    items = np.concatenate([day.item for day in days])
    users = np.concatenate([day.user for day in days])
    assert _top_share(items, CONFIG.items) > 0.2
    assert _top_share(users, CONFIG.users) > 0.08


def test_tastes_drift_by_a_stationary_random_walk() -> None:
    world = World(dataclasses.replace(CONFIG, users=20_000, taste_memory=0.9), 1)
    tastes = [world.taste.ravel()]
    for _ in range(5):
        world.next_day()
        tastes.append(world.taste.ravel())
    correlation = np.corrcoef(tastes)
    for apart in range(1, 6):
        assert np.diag(correlation, apart) == pytest.approx(0.9**apart, abs=0.02)
    assert np.var(tastes[-1]) == pytest.approx(1.0, abs=0.02)


def test_items_appear_and_age() -> None:
    world = World(CONFIG, 1)
    absent = world.exposure() == 0
    assert 0.2 < absent.mean() < 0.4
    old = np.argmax(np.where(absent, 0, world.exposure()))
    first = world.exposure()[old]
    for _ in range(CONFIG.days - 1):
        world.next_day()
    assert (world.exposure()[absent] > 0).all()
    assert world.exposure()[old] < first
    assert world.exposure().sum() == pytest.approx(1.0)


def test_carts_and_conversions_are_among_clicks(log: Log) -> None:
    for day in log.days(1, CONFIG.days):
        assert not (day.cart & ~day.click).any()
        assert not (day.conversion & ~day.click).any()
        assert 0 < day.conversion.sum() < day.cart.sum() < day.click.sum()


def test_clicks_happen_with_the_probabilities_of_the_truth(log: Log) -> None:
    day, probability = log.day(2), _truth(log, 2, "click_probability")
    tenth = np.digitize(probability, np.quantile(probability, np.arange(0.1, 1, 0.1)))
    for group in range(10):
        chosen = tenth == group
        error = 4 * np.sqrt(0.25 / chosen.sum())
        assert day.click[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=error)


def test_the_oracle_beats_popularity(log: Log) -> None:
    test = log.day(log.info.test_day)
    before = list(log.days(1, log.info.test_day - 1))
    rate = _click_rate(before)[test.item]
    oracle = gauc(test.user, test.click, _truth(log, log.info.test_day, "score")).value
    popularity = gauc(test.user, test.click, rate).value
    assert 0.52 < popularity < oracle - 0.1


def _click_rate(days: list[Day]) -> NDArray[np.float64]:
    item = np.concatenate([day.item for day in days])
    click = np.concatenate([day.click for day in days])
    shown = np.bincount(item, minlength=CONFIG.items + 1)
    clicked = np.bincount(item, weights=click, minlength=CONFIG.items + 1)
    return np.asarray((clicked + 10 * click.mean()) / (shown + 10), dtype=np.float64)


def test_the_truth_is_apart_from_the_log(log: Log) -> None:
    assert log.table(1).schema.names == SCHEMA.names
    assert len(_truth(log, 1, "noise")) == len(log.day(1))


def test_days_follow_each_other_and_rows_are_in_order_of_time(log: Log) -> None:
    spans = [(int(day.time.min()), int(day.time.max())) for day in log.days(1, CONFIG.days)]
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert (np.diff(log.day(3).time) >= 0).all()


def test_every_preset_says_a_scene_share_and_logit_per_scene() -> None:
    for config in PRESETS.values():
        assert len(config.scenes) == len(config.scene_shares) == len(config.scene_logits)
        assert sum(config.scene_shares) == pytest.approx(1.0)
        assert config.days >= 4


def test_further_test_impressions_are_of_the_sub_domain_on_the_last_day(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, impressions_per_day=2_000, test_impressions=3_000)
    simulate(config, 7, tmp_path / "log", _ignore)
    log = open_log(tmp_path / "log")
    days = [log.day(number) for number in log.info.days]
    assert [len(day) for day in days] == [2_000] * 5 + [5_000]
    assert days[-1].sub_domain.sum() > 3_000 + 400
    assert days[-2].sub_domain.sum() < 800


def test_further_tuning_impressions_and_a_third_training_day_change_nothing_else(
    tmp_path: Path,
) -> None:
    plain = dataclasses.replace(CONFIG, impressions_per_day=2_000)
    wider = dataclasses.replace(plain, tuning_impressions=3_000, training_days=3)
    simulate(plain, 7, tmp_path / "plain", _ignore)
    simulate(wider, 7, tmp_path / "wider", _ignore)
    one, other = open_log(tmp_path / "plain"), open_log(tmp_path / "wider")
    assert (other.info.pretrain_until, other.info.train_days) == (2, (3, 4, 5))
    for number in one.info.days:
        if number != 5:
            assert one.table(number).equals(other.table(number))
    assert len(other.day(5)) == 5_000
    assert other.day(5).sub_domain.sum() > 3_000 + 400


def test_a_development_world_is_half_the_large_one_and_shows_more_on_its_tuning_day() -> None:
    half, development = PRESETS["half"], PRESETS["development"]
    for size in ("users", "items", "shops", "impressions_per_day", "test_impressions"):
        assert 2 * getattr(half, size) == getattr(PRESETS["large"], size)
    assert half.tuning_impressions == 0
    assert development.tuning_impressions >= 150_000
    days = [config.days - config.training_days - 1 for config in (half, development)]
    assert days == [18, 18], "both pretrain on as many days"


def test_a_category_may_fit_one_scene_better_than_another() -> None:
    world = World(dataclasses.replace(CONFIG, fit_deviation=2.0), 7)
    columns, truth = world.impressions()
    for scene, category in ((0, 3), (1, 3), (2, 5)):
        there = (columns["scene"] == scene) & (columns["category"] == category + 1)
        np.testing.assert_allclose(truth["fit"][there], world.fit[scene, category], rtol=1e-6)


def test_the_logs_of_the_reproduction_are_the_committed_ones(tmp_path: Path) -> None:
    """The checksum was committed before the first method ran on the log."""
    file = Path(__file__).parents[3] / "docs" / "reproduction" / "logs.json"
    committed = json.loads(file.read_text(encoding="utf-8"))
    simulate(PRESETS["large"], 0, tmp_path / "log", _ignore)
    log = open_log(tmp_path / "log")
    assert log.info.checksum == committed["simulated-large"]["checksum"]
