"""What all commands have in common, asked of each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup, TyperOption

import exporter.cli
import gkc.cli
import keep.cli
from gkc.command_line import Commands, run, without_secrets

APPS = {"gkc": gkc.cli.app, "gkc-export": exporter.cli.app, "keep": keep.cli.app}
SECRET = "s3 cr/et"
URL = f"redis://user:{SECRET}@host/0"


def _walk(command: object, words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with its options that take one value."""
    options = [o for o in getattr(command, "params", []) if isinstance(o, TyperOption)]
    single = [o.opts[-1] for o in options if not (o.is_flag or o.multiple)]
    yield " ".join(words), single
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _walk(inner, [*words, name])


COMMANDS = dict(
    entry for name, app in APPS.items() for entry in _walk(typer.main.get_command(app), [name])
)


def _refused(
    command: str, *words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a command that is wrong usage, and return what it says."""
    name, *verb = command.split()
    monkeypatch.setattr("sys.argv", [name, *verb, *words])
    with pytest.raises(SystemExit) as ended:
        run(APPS[name], name)
    told = "".join(capsys.readouterr())
    assert ended.value.code == 2, told
    return told


def test_all_commands_are_asked() -> None:
    assert len(COMMANDS) > 25
    assert "--port" in COMMANDS["gkc serve"]
    assert "--sub-domain-category" not in COMMANDS["keep import taobao"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_that_is_given_twice_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in COMMANDS[command]:
        words = (option, "1", f"{option}=2" if option.startswith("--") else f"{option}2")
        told = _refused(command, *words, monkeypatch=monkeypatch, capsys=capsys)
        assert f"{option} is given twice; give it once" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_no_password_is_shown_wherever_a_url_strays_to(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strays = [URL] * 4
    for words in [[], [f"--{URL}"], *([option, URL] for option in COMMANDS[command])]:
        told = _refused(command, *words, *strays, monkeypatch=monkeypatch, capsys=capsys)
        assert not any(part in told for part in SECRET.split())


def test_flags_and_lists_may_be_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    app = Commands()

    @app.command()
    def show(names: list[str] = typer.Option([], "--name"), loud: bool = False) -> None:
        typer.echo(f"{names} {loud}")

    app(["--name", "a", "--loud", "--name", "b", "--loud"], standalone_mode=False)
    assert capsys.readouterr().out == "['a', 'b'] True\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no store (redis://:a@b/c@h:6379/0)", "no store (redis:…@h:6379/0)"),
        ("PosixPath redis:/user:a@h", "PosixPath redis:…@h"),
        ("default:a@h is nothing", "default:…@h is nothing"),
        ("redis://h/0?password=a is unknown", "redis://h/0?… is unknown"),
        ("Error: ask me@home", "Error: ask me@home"),
        ("file:/a/b, row 3: is null?", "file:/a/b, row 3: is null?"),
    ],
)
def test_what_is_hidden_of_a_text(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space", "redis://:a@h"), r"x: \[Errno 28\] No space: 'redis:…@h'\n"),
        (MemoryError(), "x: there is not enough memory here\n"),
        (gkc.errors.GkcError("two\nlines"), "x: two lines\n"),
    ],
)
def test_a_foreseeable_error_is_one_line(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Commands()

    @app.command()
    def fail() -> None:
        raise error

    app.info.name = "x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["x"])
        with pytest.raises(SystemExit, match="1"):
            run(app, "x")
    assert re.fullmatch(told, capsys.readouterr().err)
