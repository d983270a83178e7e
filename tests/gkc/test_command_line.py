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
from gkc.command_line import Commands, run, seconds, without_secrets

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
def test_help_names_values_for_people(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *verb = command.split()
    monkeypatch.setattr("sys.argv", [name, *verb, "--help"])
    with pytest.raises(SystemExit):
        run(APPS[name], name)
    told = capsys.readouterr().out
    assert "Usage: " in told
    choices = re.findall(r"<([^<=>]*)>", told)
    assert all(choice == "movielens-1m" or "|" in choice for choice in choices), "Python's types"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--dtype", "f64"), "'--dtype': 'f64' is not one of 'f16', 'f32', 'int8'"),
        (("--max-versions", "x"), "'--max-versions': must be a valid integer\n"),
    ],
)
def test_refusals_are_not_of_a_validator(
    options: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ("--version", "v", "--bundle", "b", *options)
    assert told in _refused("gkc-export", *asked, monkeypatch=monkeypatch, capsys=capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_password_is_shown_wherever_a_url_strays_to(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strays = [URL] * 4
    for words in [[], [f"--{URL}"], *([option, URL] for option in COMMANDS[command])]:
        told = _refused(command, *words, *strays, monkeypatch=monkeypatch, capsys=capsys)
        assert not any(part in told for part in SECRET.split())


@pytest.mark.parametrize("group", ["gkc", "gkc versions", "keep", "keep import"])
def test_a_list_of_commands_cuts_no_sentence(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *verb = group.split()
    APPS[name]([*verb, "--help"], standalone_mode=False)
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert listed
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("name", ["gkc", "keep"])
def test_the_version_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    APPS[name](["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"{name} {gkc.__version__}\n"


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
        ("'redis://:s3 cr/et' is nothing", "'redis:…"),
        ("PosixPath redis:/:s3cret", "PosixPath redis:…"),
        ("no store (redis://user:s3 cret)", "no store (redis:…"),
        ("no store (redis://user:63x)\n", "no store (redis:…\n"),
        ("redis://h:6379: no, at 'redis://h:6379'.", "redis://h:6379: no, at 'redis://h:6379'."),
        ("redis://h:6379/0?db=1, http://[::1]:80", "redis://h:6379/0?… http://[::1]:80"),
        ("redis://h/0?password=a is unknown", "redis://h/0?… is unknown"),
        ("Error: ask me@home", "Error: ask me@home"),
        ("file:/a/b, row 3: is null?", "file:/a/b, row 3: is null?"),
    ],
)
def test_what_is_hidden_of_a_text(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:SECRET@SECRET@h/0", "@ is %40"),
        ("redis://user:SEC RET@h/0", "a space is %20"),
        ("redis://:SECRET", "write HOST, HOST:PORT or [IPV6]:PORT"),
        ("redis://user:SECRET", "write HOST:PORT, with a port from 1 to 65535"),
        ("redis://h/0?password=SECRET", "write redis://USER:PASSWORD@ in front; percent-encode"),
        ("other://user:SECRET@h", "use file:PATH, redis://HOST:PORT/DB"),
    ],
)
def test_a_refused_url_is_explained_without_its_password(
    url: str, remedy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gkc", "versions", "list", "--store", url])
    with pytest.raises(SystemExit, match="1"):
        run(APPS["gkc"], "gkc")
    told = capsys.readouterr().err
    assert remedy in told
    assert "SEC" not in told
    assert told.count("\n") == 1


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


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e9"])
def test_seconds(text: str) -> None:
    assert seconds("1.5") == 1.5
    with pytest.raises(typer.BadParameter, match="no number of seconds"):
        seconds(text)
