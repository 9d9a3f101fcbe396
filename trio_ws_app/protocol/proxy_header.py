"""The PROXY protocol, versions 1 and 2: before the client's first byte a proxy says where the client is.

By HAProxy's specification, proxy-protocol.txt, whose sections are named below.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import attrs

Address = tuple[str, int]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LINE = b"PROXY "
_LONGEST_LINE = 107  # its end included (section 2.1)
_HEAD = len(_SIGNATURE) + 4
_PROXY = 1  # the command of version 2 that names a client; the other is 0, LOCAL
_INET, _INET6 = 1, 2  # address families
_LAST_FAMILY, _LAST_PROTOCOL = 3, 2
_SIZES = {_INET: 12, _INET6: 36}  # of both addresses and ports
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_KINDS: dict[str, type[IPv4Address] | type[IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}


@attrs.define(eq=False)
class ProxyHeader:
    """Reads one header, and asks for no byte beyond it: TLS may begin there.

    ``wanted`` is how many bytes to read next, at most; 0 when the header is complete. Then ``source`` is the
    client's address: None if the proxy speaks for itself, as in its health checks (LOCAL, UNKNOWN), or names
    no IP address. Extensions (TLVs) are skipped, not kept.
    """

    wanted: int = len(_SIGNATURE)  # there is at least so much, of both versions
    source: Address | None = None
    _data: bytearray = attrs.field(factory=bytearray)
    _is_read: bool = False  # all but what is skipped

    def receive(self, data: bytes) -> None:
        """Take up to ``wanted`` bytes. Raises ValueError for what is no header."""
        if self._is_read:
            self.wanted -= len(data)
            return
        self._data += data
        start = bytes(self._data[: len(_SIGNATURE)])
        if _SIGNATURE.startswith(start):
            self._read_version_2()
        elif start.startswith(_LINE) or _LINE.startswith(start):
            self._read_version_1()
        else:
            raise ValueError("it begins otherwise")

    def _read_version_1(self) -> None:
        """Section 2.1."""
        if b"\n" in self._data:
            self._end(_source_in_line(self._data))
        elif len(self._data) >= _LONGEST_LINE:
            raise ValueError("its line is too long")
        else:
            # There is at least so much before the line ends.
            self.wanted = min(1 if self._data.endswith(b"\r") else 2, _LONGEST_LINE - len(self._data))

    def _read_version_2(self) -> None:
        """Section 2.2."""
        size = len(self._data)
        if size < _HEAD:
            self.wanted = _HEAD - size
            return
        version, command = divmod(self._data[12], 16)
        family, protocol = divmod(self._data[13], 16)
        if version != 2 or command > _PROXY or family > _LAST_FAMILY or protocol > _LAST_PROTOCOL:
            raise ValueError("its version, command or family is unknown")
        length = int.from_bytes(self._data[14:16], "big")  # of all that follows the head
        addresses = _SIZES.get(family, 0) if command == _PROXY else 0
        if addresses > length:
            raise ValueError("it is too short for its addresses")
        if size == _HEAD + addresses:
            self._end(_source_in_block(self._data[_HEAD:]), length - addresses)
        else:
            self.wanted = _HEAD + addresses - size

    def _end(self, source: Address | None, to_skip: int = 0) -> None:
        self.source, self.wanted, self._is_read = source, to_skip, True


def _source_in_line(data: bytearray) -> Address | None:
    if not data.endswith(b"\r\n") or data.index(b"\n") != len(data) - 1:
        raise ValueError("its line does not end with CRLF")
    words = data[:-2].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return None
    kind = _KINDS.get(words[1])
    if kind is None or len(words) != 6:
        raise ValueError("its line is malformed")
    hosts, ports = [_host(kind, word) for word in words[2:4]], [_port(word) for word in words[4:]]
    return hosts[0], ports[0]


def _host(kind: type[IPv4Address] | type[IPv6Address], word: str) -> str:
    with suppress(ValueError):
        if "%" not in word:
            return str(kind(word))
    raise ValueError("its address is malformed")


def _port(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise ValueError("its port is malformed")
    return int(word)


def _source_in_block(block: bytearray) -> Address | None:
    if len(block) == _SIZES[_INET]:
        return str(IPv4Address(bytes(block[:4]))), int.from_bytes(block[8:10], "big")
    if len(block) == _SIZES[_INET6]:
        return str(IPv6Address(bytes(block[:16]))), int.from_bytes(block[32:34], "big")
    return None
