"""What may come before a request: a proxy's header, and the TLS handshake."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from ..primitives import BLOCKED
from ..protocol.proxy_header import Address, ProxyHeader
from ..wire.stream import StreamTransport
from ..wire.transport import SocketTransport

AnyTransport = SocketTransport | StreamTransport


class Dropped(Exception):
    """The client gets no answer; the text is the reason, for the log and the statistics."""


class Preamble:
    """A PROXY header, TLS, or TLS behind a PROXY header.

    With ``on_source`` there is a header: it is called with the client's address if the header has one, and
    returns whether the client may go on. With ``context`` there is TLS, and ``secured`` is its socket once it
    has begun. Raises OSError for a client that is gone.
    """

    __slots__ = ("_context", "_header", "_on_source", "_transport", "secured")

    def __init__(
        self,
        transport: AnyTransport,
        on_source: Callable[[Address], bool] | None,
        context: ssl.SSLContext | None,
    ) -> None:
        self.secured: ssl.SSLSocket | None = None
        self._transport = transport
        self._on_source = on_source
        self._header = None if on_source is None else ProxyHeader()
        self._context = context
        if self._header is None:
            self._start_tls()

    def advance(self, buffer: bytearray) -> bool:
        """Take what has come, by way of ``buffer``, without waiting; True when all is complete.

        Raises Dropped.
        """
        if self._header is not None and not self._read_header(self._header, buffer):
            return False
        return self.secured is None or self._continue_tls(self.secured)

    def _read_header(self, header: ProxyHeader, buffer: bytearray) -> bool:
        while wanted := header.wanted():
            size = self._transport.recv_into(buffer, wanted)
            if size == BLOCKED:
                return False
            if size <= 0:
                raise Dropped("gone before a request")
            try:
                header.receive(bytes(buffer[:size]))
            except ValueError as error:
                raise Dropped(f"bad PROXY header: {error}") from None
        self._header = None
        return self._goes_on_behind(header)

    def _goes_on_behind(self, header: ProxyHeader) -> bool:
        if header.source is not None and self._on_source is not None and not self._on_source(header.source):
            return False
        try:
            self._start_tls()
        except OSError as error:
            raise Dropped(f"can't be served: {error}") from None
        return True

    def _start_tls(self) -> None:
        if self._context is not None:
            assert isinstance(self._transport, SocketTransport)
            self.secured = self._transport.use_tls(self._context)

    def _continue_tls(self, secured: ssl.SSLSocket) -> bool:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            self._transport.watch(True, False)
            return False
        except ssl.SSLWantWriteError:
            self._transport.watch(True, True)
            return False
        except OSError as error:  # an SSLError is one, and so is a reset
            raise Dropped(f"TLS handshake failed: {getattr(error, 'reason', None) or error}") from None
        self._transport.watch(True, False)
        return True
