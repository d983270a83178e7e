"""``keep pretrain`` as a user runs it: exit status, one line on stderr, checkpoints."""

from __future__ import annotations

from pathlib import Path

from keep.checkpoint import load_checkpoint
from keep.config import PretrainConfig
from keep.log import Log
from tests.in_process import command, done

TOML = "batch_size = 100\nbehaviours = 5\nmlp = [16, 8]\ntower = [12, 8]\n"


def test_pretrains_with_a_config_and_goes_on_from_its_checkpoint(log: Log, tmp_path: Path) -> None:
    config = tmp_path / "pretrain.toml"
    config.write_text(TOML)
    out = tmp_path / "ckpt"
    words = ("keep", "pretrain", "--log", log.path, "--out", out)
    printed = done(*words, "--until", 2, "--config", config)
    assert "day 2: 400 impressions" in printed
    printed = done(*words, "--from-checkpoint", out)
    assert "day 2:" not in printed
    assert "day 3: 400 impressions" in printed
    state = load_checkpoint(out)
    assert state.day == 3
    assert state.config == PretrainConfig(batch_size=100, behaviours=5, mlp=(16, 8), tower=(12, 8))


def test_an_unknown_setting_is_one_line_that_names_it(log: Log, tmp_path: Path) -> None:
    config = tmp_path / "pretrain.toml"
    config.write_text("learning_rat = 0.1\n")
    words = ("--log", log.path, "--out", tmp_path / "ckpt", "--config", config)
    result = command("keep", "pretrain", *words)
    assert result.returncode == 1
    assert "unknown key 'learning_rat'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "ckpt").exists()


def test_a_config_beside_a_checkpoint_is_wrong_usage(log: Log, tmp_path: Path) -> None:
    config = tmp_path / "pretrain.toml"
    config.write_text(TOML)
    words = ("--log", log.path, "--out", tmp_path / "new", "--config", config)
    result = command("keep", "pretrain", *words, "--from-checkpoint", tmp_path / "ckpt")
    assert result.returncode == 2
    assert "leave out --config" in " ".join(result.stderr.replace("│", " ").split())


def test_no_checkpoint_where_one_was_named_is_one_line(log: Log, tmp_path: Path) -> None:
    words = ("--log", log.path, "--out", tmp_path / "new", "--from-checkpoint", tmp_path / "none")
    result = command("keep", "pretrain", *words)
    assert result.returncode == 1
    assert "make one: keep pretrain" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_shows_an_example() -> None:
    assert "Example: keep pretrain --log" in done("keep", "pretrain", "--help")


def test_the_paper_s_preset_is_where_the_settings_start(log: Log, tmp_path: Path) -> None:
    config = tmp_path / "pretrain.toml"
    config.write_text("behaviours = 5\nmlp = [16, 8]\ntower = [12, 8]\n")
    words = ("keep", "pretrain", "--log", log.path, "--out", tmp_path / "ckpt", "--until", 1)
    done(*words, "--config", config, "--preset", "paper")
    state = load_checkpoint(tmp_path / "ckpt")
    assert state.config == PretrainConfig(batch_size=2000, behaviours=5, mlp=(16, 8), tower=(12, 8))
