"""Every limit and timeout, with its default and its one documentation.

The command line derives its options from these fields: the field ``max_message_size`` is
``--max-message-size`` and ``TRIO_WS_APP_MAX_MESSAGE_SIZE``; ``help`` below is the option's help.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import attrs

from .json_codec import JsonCodec
from .origin import SAME_HOST, origin_problem

KIB = 1024
MIB = 1024 * KIB
UNIX = "unix"
_FORWARDED_HEADERS = ("x-forwarded-for", "forwarded")
_VISIBLE = re.compile(r"[^\x00-\x20,\x7f-\U0010ffff]+")
_TOO_MUCH = 2**62  # for what counts in C, where two of them are added
_SHORTEST = 0.001  # seconds; what a float loses beside a clock's time would be over and over due


def _check_kind(attribute: attrs.Attribute[Any], value: object) -> None:
    kind: Any = attribute.type
    if not isinstance(value, kind | int):  # an int is good for a float
        wanted = "a number" if isinstance(1.0, kind) else "a whole number"
        raise TypeError(f"{attribute.name} must be {wanted}, not {value!r}")


def _positive(_instance: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    _check_kind(attribute, value)
    if value is None:
        return
    if isinstance(value, int) and value >= _TOO_MUCH:
        raise ValueError(f"{attribute.name} must be less than 2**62")
    if not value > 0:
        raise ValueError(f"{attribute.name} must be greater than zero, not {value!r}")
    if attribute.metadata["unit"] == "seconds" and value < _SHORTEST:
        raise ValueError(f"{attribute.name} must be at least a millisecond, not {value!r}")


def _not_negative(_instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    _check_kind(attribute, value)
    if not value >= 0:
        raise ValueError(f"{attribute.name} must not be negative, not {value!r}")


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value)  # type: ignore[arg-type]  # attrs passes what the caller gave


def _option(default: object, text: str, unit: str, validator: Any = _positive, converter: Any = None) -> Any:
    """A field that the command line has as an option: a positive number, unless ``validator`` is another."""
    metadata = {"help": text, "unit": unit}
    return attrs.field(default=default, validator=validator, converter=converter, metadata=metadata)


def _choice(choices: tuple[str, ...], text: str) -> Any:
    """A field with one of the choices, the first by default."""

    def is_one(_instance: object, attribute: attrs.Attribute[Any], value: str) -> None:
        if value not in choices:
            raise ValueError(f"{attribute.name} is one of {', '.join(choices)}, not {value!r}")

    return _option(choices[0], text, "|".join(choices), is_one)


def _switch(text: str) -> Any:
    return _option(False, text, "", attrs.validators.instance_of(bool))


def _proxy_problem(proxy: str) -> str | None:
    """Why this is no address or network that can be trusted."""
    if proxy == UNIX:
        return None
    for strict in (True, False):
        try:
            network = ip_network(proxy, strict=strict)
        except ValueError:
            continue
        return None if strict else f"write the network as {network}"
    return "write an IP address, a network like 10.0.0.0/8, or 'unix'"


def _header_problem(name: str) -> str | None:
    return None if name in _FORWARDED_HEADERS else f"{' and '.join(_FORWARDED_HEADERS)} are known"


def _subprotocol_problem(name: str) -> str | None:
    """Why no client asks for it."""
    return None if _VISIBLE.fullmatch(name) else "a name is visible ASCII; a comma is between two"


def _lower(value: object) -> tuple[str, ...]:
    return tuple(text.lower() for text in _strings(value))


def _list(
    default: tuple[str, ...],
    text: str,
    problem_of: Callable[[str], str | None] = lambda _: None,
    converter: Any = _strings,
) -> Any:
    """A field with a list of texts that ``problem_of`` has nothing to say against."""

    def has_none(_instance: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
        for item in value:
            if (problem := problem_of(item)) is not None:
                raise ValueError(f"{attribute.name} has {item!r}: {problem}")

    return _option(default, text, "list", has_none, converter)


@attrs.frozen(kw_only=True)
class Settings:
    """Limits and timeouts of a server. Times are seconds, sizes are bytes, None means no limit.

    ``json`` is the codec of ``receive_json`` and ``send_json``.

    Raises ValueError for a value that makes no sense, TypeError for one of another type.
    """

    open_timeout: float | None = _option(
        10.0, "Time for the opening handshake, TLS included; for the head of any HTTP request.", "seconds"
    )
    keep_alive_timeout: float | None = _option(
        75.0, "Close an HTTP connection that has made no request for this long.", "seconds"
    )
    ping_interval: float | None = _option(
        20.0, "Ping a peer that has been silent for this long; any traffic counts as life.", "seconds"
    )
    ping_timeout: float | None = _option(
        20.0, "Abort the connection when a pinged peer stays silent for this long.", "seconds"
    )
    send_timeout: float | None = _option(
        20.0, "Abort the connection when a write makes no progress for this long.", "seconds"
    )
    close_timeout: float | None = _option(
        10.0, "Time for the peer to answer our Close before the connection is aborted.", "seconds"
    )
    message_timeout: float | None = _option(
        60.0, "Time for a message to arrive whole once it has begun; else it closes with 1008.", "seconds"
    )
    grace_period: float = _option(
        30.0, "Time for handlers to end when the server stops.", "seconds", _not_negative
    )
    restart_batch_size: int | None = _option(
        1000, "Connections that a planned restart closes at once; the next ones follow later.", "connections"
    )
    restart_batch_interval: float = _option(
        1.0,
        "Time between two batches, give or take a half; all come within half of the grace period.",
        "seconds",
    )
    max_message_size: int | None = _option(
        1 * MIB, "Largest message accepted, after decompression; a larger one closes with 1009.", "bytes"
    )
    max_fragments: int = _option(65_536, "Most frames that one message may be split into.", "frames")
    max_queue_bytes: int = _option(
        1 * MIB, "Most bytes that wait for a slow peer before the overflow policy acts.", "bytes"
    )
    max_inbox_bytes: int = _option(
        256 * KIB,
        "Received messages that wait for the handler, with an overhead for each. As much again is read "
        "ahead for a Close, pings and pongs; then only the end of the TCP connection is noticed.",
        "bytes",
    )
    max_request_size: int = _option(
        16 * KIB, "Largest request line plus headers, of the opening handshake and of HTTP requests.", "bytes"
    )
    max_headers: int = _option(100, "Most headers of an HTTP request; one with more gets 431.", "headers")
    max_body_size: int | None = _option(
        16 * MIB, "Largest body of an HTTP request; a larger one gets 413.", "bytes"
    )
    min_body_rate: int | None = _option(
        256, "Least bytes a second of a request's body, in any ten seconds; a slower one gets 408.", "bytes"
    )
    max_connections: int | None = _option(
        None,
        "Most connections at once, handshakes in progress included; one more gets HTTP status 503.",
        "connections",
    )
    max_connections_per_address: int | None = _option(
        None,
        "Most connections at once from one IP address, or one /64 network of IPv6, counted alike; one more "
        "gets 503.",
        "connections",
    )
    max_connections_per_user: int | None = _option(
        None,
        "Most connections at once of one user, whom process_request puts into request.state.user; one more "
        "gets 429.",
        "connections",
    )
    max_connection_age: float | None = _option(
        None, "Close a connection with 1012 at about this age, up to a tenth sooner or later.", "seconds"
    )
    max_messages_per_second: float | None = _option(
        None, "Messages that a connection may send a second, and so many at once.", "messages"
    )
    max_bytes_per_second: int | None = _option(
        None, "Bytes of messages that a connection may send a second, with an overhead for each.", "bytes"
    )
    rate_policy: str = _choice(
        ("slow", "drop", "close"),
        "What a connection's messages meet that come faster: they are not read, dropped, or it closes with "
        "1008.",
    )
    max_memory: int | None = _option(
        None,
        "Most that may wait in the server together, for handlers and for peers; beyond it the connections "
        "with most end with 1013.",
        "bytes",
    )
    max_handshakes_per_second: float | None = _option(
        None,
        "Opening handshakes a second from one IP address, or one /64 network of IPv6, and so many at once; "
        "one more gets 429.",
        "handshakes",
    )
    max_handshakes: int = _option(
        10_000,
        "Most clients at once that are in the opening handshake; there are fewer if file descriptors are "
        "scarce. At the bound, the address with most gives way.",
        "handshakes",
    )
    trusted_proxies: tuple[str, ...] = _list(
        (),
        "Proxies that are believed where a client is: a comma-separated list of addresses and networks like "
        "10.0.0.0/8, and 'unix' for peers on a Unix socket.",
        _proxy_problem,
    )
    forwarded_headers: tuple[str, ...] = _list(
        _FORWARDED_HEADERS,
        "Headers in which they say so; the first that is there counts. Name the one that your proxy sets: it "
        "may pass on another as the client has sent it.",
        _header_problem,
        _lower,
    )
    proxy_protocol: bool = _switch(
        "Have connections begin with a header of the PROXY protocol, version 1 or 2; those of the trusted "
        "proxies alone, if any are named.",
    )
    origins: tuple[str, ...] = _list(
        (SAME_HOST,),
        "Origins that browsers may connect from: a comma-separated list of origins like https://example.com, "
        "https://*.example.com for its subdomains, 'same-host' for pages from the host and port that they "
        "connect to, 'null' and file:// for local files, or '*' for any.",
        origin_problem,
    )
    subprotocols: tuple[str, ...] = _list(
        (), "Subprotocols that the application speaks, the preferred one first.", _subprotocol_problem
    )
    compression: bool = _switch("Negotiate permessage-deflate (RFC 7692) with peers that offer it.")
    compression_threshold: int = _option(256, "Messages smaller than this are sent uncompressed.", "bytes")
    # No option: an application that needs it says so.
    json: JsonCodec = attrs.field(factory=JsonCodec, validator=attrs.validators.instance_of(JsonCodec))


attrs.resolve_types(Settings)  # for _check_kind, and for the command line
_HELP = [
    f"        {field.name}: {field.metadata['help']}" for field in attrs.fields(Settings) if field.metadata
]
Settings.__doc__ = "\n".join([f"{Settings.__doc__}", "    Attributes:", *_HELP])
