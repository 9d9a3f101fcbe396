"""Patterns with parameters: ``/room/{name}``, ``/jobs/{id:int}``, ``room:{name}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from uuid import UUID

import attrs

_LONGEST_NUMBER = 40  # digits; Python refuses to read thousands of them
_UUID = "-".join(f"[0-9a-fA-F]{{{size}}}" for size in (8, 4, 4, 4, 12))

# The names and the meaning are Starlette's.
_CONVERTERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "str": ("[^/]+", str),
    "int": (f"[0-9]{{1,{_LONGEST_NUMBER}}}", int),
    "float": (f"[0-9]{{1,{_LONGEST_NUMBER}}}(?:\\.[0-9]{{1,{_LONGEST_NUMBER}}})?", float),
    "uuid": (_UUID, UUID),
    "path": (".*", str),
}
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")


def has_parameters(text: str) -> bool:
    """Whether ``text`` is more than itself."""
    return "{" in text or "}" in text


@attrs.frozen
class Pattern:
    """What a text with parameters matches, as a whole."""

    expression: re.Pattern[str]
    converters: Mapping[str, Callable[[str], object]]

    def match(self, text: str) -> Mapping[str, object] | None:
        """The parameters in ``text``, converted; None if it does not match."""
        match = self.expression.fullmatch(text)
        if match is None:
            return None
        return {name: convert(match[name]) for name, convert in self.converters.items()}


def pattern(text: str) -> Pattern:
    """Raises ValueError for a text that makes no sense."""
    expression, end, converters = "", 0, dict[str, Callable[[str], object]]()
    for parameter in _PARAMETER.finditer(text):
        name, kind = parameter[1], parameter[2] or "str"
        if name in converters:
            raise ValueError(f"the path {text!r} has the parameter {name!r} twice")
        if kind not in _CONVERTERS:
            raise ValueError(f"the type {kind!r} in {text!r} is none of {', '.join(_CONVERTERS)}")
        part, converters[name] = _CONVERTERS[kind]
        expression += f"{_literal(text, end, parameter.start())}(?P<{name}>{part})"
        end = parameter.end()
    return Pattern(re.compile(expression + _literal(text, end, len(text)), re.DOTALL), converters)


def _literal(whole: str, start: int, end: int) -> str:
    text = whole[start:end]
    if has_parameters(text):
        raise ValueError(
            f"{whole!r} has a brace that belongs to no parameter: write {{name}} or {{name:int}}"
        )
    return re.escape(text)
