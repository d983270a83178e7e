"""What all commands have in common: how options are read, and how what fails is told."""

from __future__ import annotations

import io
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from typing import Any, Final, NoReturn, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from gkc.errors import GkcError, StoreUrlError
from gkc.settings import in_words

Function = TypeVar("Function", bound=Callable[..., Any])

_YEAR_SECONDS: Final = 31_536_000

_SECRETS: Final = re.compile(
    r":(?:/.*|\S*)@"
    # A password with no host behind it, where a port would stand; \[ begins an IPv6 address.
    r"|:/(?:/?:|/[^\s/:\[]+:(?!\d{1,5}(?:[/?]|[)'\",;:.]*(?:\s|$))|\s|$)).*?(?=\s*\Z)"
    r"|(?<=\?)[^\s=]+=\S*",
    re.DOTALL,
)


def without_secrets(text: str) -> str:
    """Hide what may be a password: what stands before the host of a URL, or behind its ``?``.

    A password may have any character, so all from the first ``:/`` to the last ``@`` goes, and to
    the end if there is no ``@``.
    """

    def hidden(secret: re.Match[str]) -> str:
        if not secret[0].startswith(":"):
            return "…"
        return ":…@" if secret[0].endswith("@") else ":…"

    return _SECRETS.sub(hidden, text)


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command: exit 0 done, 1 failed with one line on standard error, 2 wrong usage."""
    try:
        status: int = app(prog_name=name, standalone_mode=False) or 0
    except typer.TyperException as wrong_usage:
        shown = io.StringIO()
        wrong_usage.show(shown)  # type: ignore[attr-defined] # in all that typer raises
        sys.stderr.write(without_secrets(in_words(shown.getvalue())))
        status = wrong_usage.exit_code
    except StoreUrlError as error:  # holds no secret, but tells how an @ is written
        sys.stderr.write(f"{name}: {error}\n")
        status = 1
    except (GkcError, OSError, MemoryError) as error:
        told = str(error) or "there is not enough memory here"
        sys.stderr.write(f"{name}: {without_secrets(' '.join(told.split()))}\n")
        status = 1
    sys.exit(status)


def version_option(name: str) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the option ``--version`` of a command of this name."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"{name} {metadata.version('gkc')}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Print the version of gkc.")


class Commands(typer.Typer):
    """A command, or several, that refuse an option given twice."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of typer.Typer
        super().__init__(
            cls=_Group,
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            **options,
        )

    def command(
        self,
        name: str | None = None,
        **options: Any,  # noqa: ANN401 - as above
    ) -> Callable[[Function], Function]:
        """Register a function as a command."""
        return super().command(name, cls=_Command, **options)


class _Command(TyperCommand):
    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of TyperCommand
        super().__init__(*args, **options)
        for param in self.params:
            if isinstance(param, TyperArgument) and param.metavar:
                # Its Python type would stand behind the name that it has for people.
                param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - no public class
        _refuse_repeated(self, ctx, args)
        return super().parse_args(ctx, args)


class _Group(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - no public class
        _refuse_repeated(self, ctx, args)
        return super().parse_args(ctx, args)


def seconds(text: str) -> float:
    """Read an option's number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _YEAR_SECONDS:
        raise typer.BadParameter(f"{text!r} is no number of seconds from 0 to {_YEAR_SECONDS}")
    return number


def _refuse_repeated(command: TyperCommand | TyperGroup, ctx: Any, args: list[str]) -> None:  # noqa: ANN401
    """Refuse a value given twice, of which the last one would count in silence."""
    # Reading empties the list that it is given.
    _, _, given = command.make_parser(ctx).parse_args(list(args))
    for option, times in Counter(given).items():
        is_one = isinstance(option, TyperOption) and not (option.is_flag or option.multiple)
        if times > 1 and is_one:
            raise typer.BadParameter(f"{option.opts[-1]} is given twice; give it once", ctx)
