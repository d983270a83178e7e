"""Settings from TOML: what is refused, and that it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from keep.config import ConfigError, PretrainConfig, read_config


def written(folder: Path, text: str) -> Path:
    file = folder / "pretrain.toml"
    file.write_text(text)
    return file


def test_settings_override_the_paper_s(tmp_path: Path) -> None:
    file = written(tmp_path, "batch_size = 2000\nmlp = [32, 8]\npair_weight = 0\n")
    assert read_config(file) == PretrainConfig(batch_size=2000, mlp=(32, 8), pair_weight=0.0)


def test_settings_left_out_are_the_preset_s(tmp_path: Path) -> None:
    file = written(tmp_path, 'towers = "shared"\ndistillation = 2\n')
    found = read_config(file, "paper")
    assert found == PretrainConfig(batch_size=2000, towers="shared", distillation=2.0)
    assert (found.dim, found.category_dim) == (64, 192)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batch_sise = 3", "unknown key 'batch_sise'"),
        ("batch_size = 0", "batch_size must be a positive integer"),
        ("batch_size = true", "batch_size must be a positive integer"),
        ("batch_size = '3'", "batch_size must be a positive integer"),
        ("seed = -1", "seed must be an integer"),
        ("category_width = -1", "category_width must be an integer of at least 0"),
        ("mlp = []", "mlp must be a list"),
        ("mlp = [64, 0]", "mlp must be a list"),
        ("tower = 64", "tower must be a list"),
        ("unknown_rate = 1.5", "unknown_rate must be a number"),
        ("learning_rate = false", "learning_rate must be a number"),
        ("distillation = -1", "distillation must be a number of at least 0"),
        ("pairs = 'week'", "pairs must be one of day, batch"),
        ("towers = 3", "towers must be one of task, shared"),
        ("batch_size = ", "is not TOML"),
        ("mlp = " + "[" * 100_000, "is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, named: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError, match=named) as caught:
        read_config(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        read_config(tmp_path / "none.toml")
