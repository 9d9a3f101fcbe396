"""An option of ``serve`` for each field of ``Settings`` that has a help text, derived from the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isnan
from typing import Any, TypeVar, get_args

import attrs
import click
from click.core import ParameterSource

from ..errors import UsageError
from ..settings import Settings
from .errors import mistakes

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = [field for field in attrs.fields(Settings) if "help" in field.metadata]
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_MULTIPLES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}


class IntRange(click.IntRange):
    """A whole number within bounds; what is none is said to be "not a valid integer"."""

    name = "integer"


class FloatRange(click.FloatRange):
    """A number within bounds; what is none, NaN too, is said to be "not a valid number"."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return number


def text(argument: str) -> str:
    """The type of a text that is sent: an argument may be bytes that are not UTF-8."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8") from None
    return argument


def header_text(argument: str) -> str:
    """The type of a text that is sent in a header (RFC 9110, section 5.5)."""
    try:
        argument.encode("latin-1")
    except UnicodeEncodeError:
        raise click.BadParameter("it is sent in a header: write it in ASCII") from None
    if _CONTROL.search(argument):
        raise click.BadParameter("it is sent in a header: leave line breaks and control characters out")
    if not argument or argument != argument.strip():
        raise click.BadParameter("it is sent in a header: it is not empty, and no blanks are around it")
    return argument


def variable(name: str) -> str:
    """The environment variable that sets an option: ``TRIO_WS_APP_GRACE_PERIOD`` for ``grace_period``."""
    return f"TRIO_WS_APP_{name.upper()}"


def option_name(field_name: str) -> str:
    """``--grace-period`` for the field ``grace_period``."""
    return "--" + field_name.replace("_", "-")


def option(
    name: str, text: str, *, show_default: bool = True, **attributes: Any
) -> Callable[[Command], Command]:
    """An option with its help, which is a variable as well."""
    field = name.partition("/")[0].removeprefix("--").replace("-", "_")
    return click.option(name, help=text, envvar=variable(field), show_default=show_default, **attributes)


class CommandWithVariables(click.Command):
    """A command whose mistakes name the variable instead of the option if that has the bad value."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BaseException as problem:
            for mistake in mistakes(problem):
                mistake.args = (_with_variables(str(mistake), ctx),)
            raise


class CommandWithSettings(CommandWithVariables):
    """One whose help shows the settings under a heading of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = {field.name for field in OPTIONS}
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Limits and timeouts": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections["Limits and timeouts" if parameter.name in names else "Options"].append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _with_variables(message: str, ctx: click.Context) -> str:
    """The message with the variable's name in place of an option that a variable has set."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is ParameterSource.ENVIRONMENT and isinstance(parameter.envvar, str):
            option = re.escape(parameter.opts[0])
            message = re.sub(rf"(?<![\w-]){option}(?![\w-])", parameter.envvar, message, count=1)
    return message


def settings_options(command: Command) -> Command:
    """Give the command one option for each of ``OPTIONS``, in their order."""
    for field in reversed(OPTIONS):
        command = _settings_option(field)(command)
    return command


def settings_from(values: Mapping[str, Any]) -> Settings:
    """The settings that the options' values stand for.

    Raises UsageError for a value that makes no sense.
    """
    try:
        return Settings(**values)
    except ValueError as problem:
        field, _, rest = str(problem).partition(" ")
        raise UsageError(f"{option_name(field)} {rest}") from None


def shown(value: object, unit: str) -> str:
    """A default as a person would type it: ``1MiB``, ``10``, ``none``."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ",".join(value)
    if unit == "bytes" and isinstance(value, int):
        for suffix, multiple in _MULTIPLES.items():
            if value and value % multiple == 0:
                return f"{value // multiple}{suffix}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings_option(field: attrs.Attribute[Any]) -> Callable[[Command], Command]:
    name, unit, text = option_name(field.name), str(field.metadata["unit"]), str(field.metadata["help"])
    if field.type is bool:
        switch = f"{name}/--no-{name.removeprefix('--')}"
        return option(switch, text, default=field.default, show_default=False)
    default = shown(field.default, unit)
    parse = None if unit == "list" or field.type is str else limit(field.type, unit)
    return option(
        name, text, default=default, show_default=bool(default), metavar=unit.upper(), callback=parse
    )


def limit(kind: Any, unit: str) -> Callable[[click.Context, click.Parameter, str], float | None]:
    """What reads an option's text as a number of the ``unit``; ``none`` if its kind may be None."""
    kinds = get_args(kind) or (kind,)
    number = int if int in kinds else float
    optional = type(None) in kinds

    def parse(_context: click.Context, _parameter: click.Parameter, text: str) -> float | None:
        if optional and text.strip().lower() == "none":
            return None
        try:
            return _size(text) if unit == "bytes" else number(text)
        except ValueError:
            wanted = f"a {'whole ' if number is int else ''}number of {unit}"
            wanted += ", for example 65536, 64KiB or 1MiB" if unit == "bytes" else ""
            wanted += ", or 'none' for no limit" if optional else ""
            raise click.BadParameter(f"{text!r} is not {wanted}.") from None

    return parse


def _size(text: str) -> int:
    digits = text.strip().lower()
    for suffix, multiple in _MULTIPLES.items():
        if digits.endswith(suffix.lower()):
            return int(digits.removesuffix(suffix.lower())) * multiple
    return int(digits)
