"""The options of ``serve`` are the settings' fields."""

from __future__ import annotations

from typing import Any

import attrs
import click
import pytest
from click.testing import CliRunner

from trio_ws_app import Settings
from trio_ws_app.cli.errors import OneLineErrors
from trio_ws_app.cli.options import (
    CommandWithSettings,
    option_name,
    settings_from,
    settings_options,
    shown,
    variable,
)

LISTS = {
    "origins": "https://a,https://b",
    "subprotocols": "a,b",
    "trusted_proxies": "10.0.0.0/8,unix",
    "forwarded_headers": "forwarded,x-forwarded-for",
}
FIELDS = [field for field in attrs.fields(Settings) if field.name != "json"]


def read(*arguments: str, **variables: str) -> tuple[Settings | None, str]:
    """The settings that a command line stands for, or None and what it says instead."""
    found: list[Settings] = []

    @click.group(cls=OneLineErrors)
    def group() -> None:
        pass

    @group.command("serve", cls=CommandWithSettings)
    @settings_options
    def serve(**values: Any) -> None:
        found.append(settings_from(values))

    result = CliRunner().invoke(group, ["serve", *arguments], env=variables)
    assert result.exit_code == (0 if found else 2)
    return (found[0] if found else None), result.output


def test_without_options_the_settings_are_the_defaults() -> None:
    """The command line has no defaults of its own."""
    assert read() == (Settings(), "")


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_setting_is_an_option_and_a_variable(field: attrs.Attribute[Any]) -> None:
    """Each field can be set by its option and by its variable, to the same value."""
    if isinstance(field.default, bool):
        arguments, text, value = [option_name(field.name)], "1", True
    elif isinstance(field.default, str):
        text = value = str(field.metadata["unit"]).rpartition("|")[2]
        arguments = [option_name(field.name), text]
    elif isinstance(field.default, tuple):
        text = LISTS[field.name]
        arguments, value = [option_name(field.name), text], tuple(text.split(","))
    else:
        arguments, text, value = [option_name(field.name), "7"], "7", 7
    wanted = attrs.evolve(Settings(), **{field.name: value})
    assert read(*arguments) == (wanted, "")
    assert read(**{variable(field.name): text}) == (wanted, "")


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("64KiB", 65536), ("64kib", 65536), ("2MiB", 2 << 20), ("none", None)],
)
def test_sizes_have_units(text: str, size: int | None) -> None:
    """A size is a number of bytes, KiB, MiB or GiB, or none if there may be no limit."""
    assert read("--max-message-size", text) == (Settings(max_message_size=size), "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--max-queue-bytes", "none"],
            ["--max-queue-bytes", "'none' is not a whole number of bytes", "64KiB"],
        ),
        (["--max-fragments", "1.5"], ["--max-fragments", "'1.5' is not a whole number of frames"]),
        (["--open-timeout", "soon"], ["--open-timeout", "'soon' is not a number of seconds, or 'none'"]),
        (["--open-timeout", "0"], ["--open-timeout must be greater than zero"]),
        (["--open-timeout", "nan"], ["--open-timeout must be greater than zero"]),
        (["--grace-period", "-1"], ["--grace-period must not be negative"]),
        (["--grase-period", "1"], ["--grase-period"]),
        (["--trusted-proxies", "10.0.0.1/8"], ["--trusted-proxies has '10.0.0.1/8'", "10.0.0.0/8"]),
    ],
)
def test_a_bad_value_is_one_line_that_says_what_would_be_right(
    arguments: list[str], words: list[str]
) -> None:
    """The line names the option, the value, and what the option takes."""
    settings, line = read(*arguments)
    assert settings is None
    assert len(line.splitlines()) == 1
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("open_timeout", "soon", "'soon' is not a number of seconds"),
        ("open_timeout", "0", "TRIO_WS_APP_OPEN_TIMEOUT must be greater than zero"),
        ("max_queue_bytes", "none", "'none' is not a whole number of bytes"),
    ],
)
def test_a_bad_value_of_a_variable_is_blamed_on_the_variable(name: str, value: str, words: str) -> None:
    """Who never typed the option would not find it."""
    settings, line = read(**{variable(name): value})
    assert settings is None
    assert words in line
    assert variable(name) in line
    assert option_name(name) not in line


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "seconds", "none"),
        (10.0, "seconds", "10"),
        (0.5, "seconds", "0.5"),
        (1 << 20, "bytes", "1MiB"),
        (1000, "bytes", "1000"),
        (65536, "frames", "65536"),
        (("a", "b"), "list", "a,b"),
    ],
)
def test_defaults_are_shown_as_they_would_be_typed(value: object, unit: str, text: str) -> None:
    """The help shows sizes with their units and no needless digits."""
    assert shown(value, unit) == text
