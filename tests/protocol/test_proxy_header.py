"""The PROXY protocol's header, in every cut, and what is none."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws_app.protocol.proxy_header import ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6, UNIX, UNSPECIFIED = 0x11, 0x21, 0x31, 0x00
BEHIND = b"GET / HTTP/1.1\r\n"


def version_2(
    command: int, family: int, source: str | None = None, port: int = 0, tail: bytes = b"", block: bytes = b""
) -> bytes:
    """A header with this source, the same destination, and extensions."""
    if source is not None:
        packed = ip_address(source).packed
        block = packed + packed + struct.pack("!HH", port, 80)
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(block + tail)) + block + tail


def read(data: bytes, at_once: int = 1 << 20) -> tuple[object, bytes]:
    """The source that ``data`` begins with, read in pieces of ``at_once`` at most, and what is left."""
    header = ProxyHeader()
    while wanted := header.wanted:
        size = min(wanted, at_once)
        assert data, "it wants more than there is"
        header.receive(data[:size])
        data = data[size:]
    return header.source, data


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@pytest.mark.parametrize(
    ("header", "source"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", ("192.0.2.1", 56324)),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 0 1\r\n", ("1.1.1.1", 0)),
        (b"PROXY TCP6 2001:DB8::1 ::1 65535 80\r\n", ("2001:db8::1", 65535)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        (version_2(PROXY, TCP4, "192.0.2.1", 56324), ("192.0.2.1", 56324)),
        (version_2(PROXY, TCP6, "2001:db8::1", 1), ("2001:db8::1", 1)),
        (version_2(PROXY, TCP4, "192.0.2.1", 2, b"\x04\0\x03abc" * 1000), ("192.0.2.1", 2)),
        (version_2(LOCAL, UNSPECIFIED), None),
        (version_2(LOCAL, TCP4, "192.0.2.1", 5), None),
        (version_2(PROXY, UNSPECIFIED, block=b"x" * 65535), None),
        (version_2(PROXY, UNIX, block=bytes(216)), None),
    ],
)
def test_a_header_is_read_to_its_end_and_no_further(
    header: bytes, source: tuple[str, int] | None, at_once: int
) -> None:
    """However it is cut, the bytes behind it are left: they are TLS's, or the request."""
    assert read(header + BEHIND, at_once) == (source, BEHIND)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PROXIES" + b" " * 100,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1\n" + b" " * 100,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 1\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 1 1\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 1\r\n",
        b"PROXY TCP6 fe80::1%lo ::1 1 1\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 1\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 1\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 1\r\n",
        b"PROXY \r\n" + b" " * 100,
        b"PROXY UNKNOWN " + b"x" * 200,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        b"\r\n\r\n\x00\r\nQUIT\r" + b" " * 100,
        version_2(0x11, TCP4, "192.0.2.1"),
        version_2(0x22, TCP4, "192.0.2.1"),
        version_2(PROXY, 0x41, "192.0.2.1"),
        version_2(PROXY, 0x13, "192.0.2.1"),
        version_2(PROXY, TCP4, block=b"x" * 11) + b" " * 100,
        version_2(PROXY, TCP6, "192.0.2.1") + b" " * 100,
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    """Within the length that a header may have, and with a ValueError alone."""
    for at_once in (1, 1000):
        with pytest.raises(ValueError, match=r"^its? "):
            read(data, at_once)


STARTS = [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"!"]


@given(st.binary(max_size=300), st.sampled_from(STARTS))
def test_arbitrary_bytes_are_a_header_or_a_value_error(data: bytes, start: bytes) -> None:
    """Nothing else is raised, and what is kept stays small."""
    header, rest = ProxyHeader(), start + data
    try:
        while (wanted := header.wanted) and rest:
            header.receive(rest[:wanted])
            rest = rest[wanted:]
    except ValueError:
        pass
    assert len(header._data) <= 232
