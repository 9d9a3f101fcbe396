"""Which function of the application answers for which channel and call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, get_args

import attrs

from ..broker.history import History
from ..server.parameters import Pattern
from .codes import ErrorCode, Refuse
from .interface import ConnectRequest, User

SlowPolicy = Literal["disconnect", "unsubscribe", "drop-newest", "drop-oldest", "latest"]
Recovery = Literal["stream", "cache"]
Function = Callable[..., Awaitable[object]]
ConnectFunction = Callable[[ConnectRequest], Awaitable[User]]

_LOSSY: Final = ("drop-newest", "drop-oldest", "latest")


@attrs.frozen(kw_only=True)
class Rule:
    """What holds for the channels of one pattern; see ``Channels.subscription``."""

    pattern: Pattern
    handler: Function
    history: History | None
    recovery: Recovery
    presence: bool
    overflow: SlowPolicy
    needs_token: bool

    def __attrs_post_init__(self) -> None:
        if self.recovery not in get_args(Recovery):
            raise ValueError(f"recovery is 'stream' or 'cache', not {self.recovery!r}")
        if self.overflow not in get_args(SlowPolicy):
            raise ValueError(f"overflow is one of {', '.join(get_args(SlowPolicy))}, not {self.overflow!r}")
        if self.overflow in _LOSSY and self.history is not None and self.recovery == "stream":
            raise ValueError(
                f"overflow={self.overflow!r} would lose publications of a channel that promises to recover "
                "them: use 'disconnect' or 'unsubscribe', recovery='cache', or no history"
            )


@attrs.define
class Rules:
    """All that an application has said."""

    connect: ConnectFunction | None = None
    message: Function | None = None
    calls: dict[str, Function] = attrs.field(factory=dict)
    fixed: dict[str, Rule] = attrs.field(factory=dict)
    patterns: list[Rule] = attrs.field(factory=list)

    def add(self, text: str, rule: Rule) -> None:
        """Add what holds for a pattern. Raises ValueError if one is there for it already."""
        if text in self.fixed or any(other.pattern == rule.pattern for other in self.patterns):
            raise ValueError(f"there is a function for {text!r} already")
        if rule.pattern.converters:
            self.patterns.append(rule)
        else:
            self.fixed[text] = rule

    def find(self, channel: str) -> tuple[Rule, Mapping[str, object]]:
        """The rule of a channel with the parameters in its name: a name without any first, else the first.

        Raises ``Refuse`` with 102 if there is none.
        """
        fixed = self.fixed.get(channel)
        if fixed is not None:
            return fixed, {}
        for rule in self.patterns:
            parameters = rule.pattern.match(channel)
            if parameters is not None:
                return rule, parameters
        raise Refuse(ErrorCode.UNKNOWN_CHANNEL)
