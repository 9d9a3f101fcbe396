"""What may come before a request: a proxy's header, and the TLS handshake."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import attrs

from ..primitives import BLOCKED
from ..protocol.proxy_header import ProxyHeader
from ..wire.transport import SocketTransport
from .addresses import Client, ip_client
from .pending_clients import Stage
from .pending_handshake import PendingHandshake


@attrs.define(eq=False)
class Preamble:
    """The endpoint of a transport before that of ``handshake``: a PROXY header, TLS, or TLS behind a header.

    With ``identify`` there is a header: it is called with the client if the header has one, and may end the
    handshake. With ``context`` there is TLS. Raises OSError for a client that is gone.
    """

    _handshake: PendingHandshake
    _identify: Callable[[PendingHandshake, Client], None] | None
    _context: ssl.SSLContext | None
    _header: ProxyHeader | None = attrs.field(default=None, init=False)
    _secured: ssl.SSLSocket | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._handshake.stage = Stage.PREAMBLE
        if self._identify is None:
            self._start_tls()
        else:
            self._header = ProxyHeader()

    def readable(self, buffer: bytearray, now: float) -> None:
        """Bytes have come, or the end."""
        # A stream may hold more of what a client has sent that was dropped: the handshake throws it away.
        if not self._handshake.is_undecided or self._advance(buffer):
            self._handshake.readable(buffer, now)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self._advance(bytearray())  # TLS, which does not need the buffer

    def failed(self) -> None:
        """Something of ours went wrong with this client."""
        self._handshake.failed()

    def _advance(self, buffer: bytearray) -> bool:
        """Take what has come, by way of ``buffer``; True when all is complete, and the request is next."""
        if self._header is not None and not self._read_header(self._header, buffer):
            return False
        if self._secured is not None and not self._continue_tls(self._secured):
            return False
        self._handshake.stage = Stage.REQUEST
        self._handshake.transport.endpoint = self._handshake
        return True

    def _read_header(self, header: ProxyHeader, buffer: bytearray) -> bool:
        while wanted := header.wanted:
            size = self._handshake.transport.recv_into(buffer, wanted)
            if size == BLOCKED:
                return False
            if size <= 0:
                return self._drop("gone before a request")
            try:
                header.receive(bytes(buffer[:size]))
            except ValueError as error:
                return self._drop(f"bad PROXY header: {error}")
        self._header = None
        return self._goes_on_behind(header)

    def _goes_on_behind(self, header: ProxyHeader) -> bool:
        if header.source is not None and self._identify is not None:
            self._identify(self._handshake, ip_client(*header.source))
            self._handshake.peer = self._handshake.client
            if not self._handshake.is_undecided:
                return False
        try:
            self._start_tls()
        except OSError as error:
            return self._drop(f"can't be served: {error}")
        return True

    def _start_tls(self) -> None:
        if self._context is not None:
            assert isinstance(self._handshake.transport, SocketTransport)
            self._handshake.secured = self._secured = self._handshake.transport.use_tls(self._context)

    def _continue_tls(self, secured: ssl.SSLSocket) -> bool:
        self._handshake.has_spoken = True  # a proxy's word is not the client's
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            self._handshake.transport.watch(True, False)
            return False
        except ssl.SSLWantWriteError:
            self._handshake.transport.watch(True, True)
            return False
        except OSError as error:  # an SSLError is one, and so is a reset
            return self._drop(f"TLS handshake failed: {getattr(error, 'reason', None) or error}")
        self._handshake.transport.watch(True, False)
        return True

    def _drop(self, reason: str) -> bool:
        self._handshake.drop(reason)
        return False
