"""Which clients may begin an opening handshake, and those that are in it."""

from __future__ import annotations

import socket
from contextlib import suppress

from ..asgi.http_link import HttpLink
from ..wire.deadlines import FixedTimeout
from .addresses import Client, Proxies, local_address
from .core import Core
from .dispatch import DRAINING, FULL, TOO_MANY, Dispatcher
from .limits import HandshakeRates, PendingHandshakes
from .pending_handshake import LocalAddress, PendingHandshake
from .preamble import AnyTransport
from .tls import Secured, note_server_name

_LINGER = 2.0  # seconds for a client to take its answer and close

_FULL_AT_ONCE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Admission:
    """Admits clients to the opening handshake, and owns those that are in it."""

    def __init__(self, core: Core) -> None:
        settings, deadlines = core.options.settings, core.engine.deadlines
        self.core = core
        self.settings = settings
        self.serves_http = core.options.http is not None
        self.now = core.engine.now
        self.open_timeout = FixedTimeout(deadlines, settings.open_timeout)
        self.keep_alive_timeout = FixedTimeout(deadlines, settings.keep_alive_timeout)
        self.linger_timeout = FixedTimeout(deadlines, _LINGER)
        self.pending = PendingHandshakes(settings, core.places)
        self.proxies = Proxies(settings)
        self.client_of = self.proxies.client_of
        self._rates = HandshakeRates(settings.max_handshakes_per_second, self.now)
        dispatcher = Dispatcher(core, self._go_on)
        self.decide = dispatcher.decide
        self.connections = dispatcher.connections
        self.exchanges = dispatcher.exchanges
        self._ssl_context = core.options.ssl_context
        if self._ssl_context is not None and self._ssl_context.sni_callback is None:
            self._ssl_context.sni_callback = note_server_name

    # -- from the listeners ------------------------------------------------------------------

    def admit_socket(self, sock: socket.socket, client: Client) -> None:
        """A client has connected; its non-blocking socket is ours from here on."""
        client, has_header = self.proxies.connected(client)
        if not self.let_begin(client):
            self._turn_away(sock)
            return
        local = local_address(sock.getsockname())
        transport = self.core.engine.transport(sock.detach())
        handshake = self.begin(transport, client, local=local)
        try:
            if has_header or self._ssl_context is not None:
                handshake.begin_with_preamble(has_header, self._ssl_context)
            transport.start(handshake)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            handshake.drop(f"can't be served: {error}")
        except BaseException:
            handshake.drop("can't be served")
            raise

    def let_begin(self, client: Client) -> bool:
        """Whether ``client`` may begin an opening handshake; if need be instead of another one."""
        return self._rates.admit(client.group) and self.pending.make_room(client.group)

    def begin(
        self,
        transport: AnyTransport,
        client: Client,
        secured: Secured | None = None,
        local: LocalAddress = None,
        is_reused: bool = False,
    ) -> PendingHandshake:
        """The handshake that will come over ``transport``."""
        handshake = PendingHandshake(transport, client, self, self.now(), secured, local, is_reused)
        self.pending.add(handshake)
        return handshake

    def _turn_away(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self.count_refused("too many handshakes")
            if self._ssl_context is None:
                sock.send(_FULL_AT_ONCE)
            sock.shutdown(socket.SHUT_RDWR)

    # -- the end -----------------------------------------------------------------------------

    def drop_idle(self) -> None:
        """Close the clients that have had their answers."""
        for handshake in self.pending:
            if handshake.is_idle:
                handshake.drop("the server drains")

    def drop_silent(self) -> None:
        """Close the clients that have connected and sent nothing."""
        for handshake in self.pending:
            if not handshake.has_spoken:
                handshake.drop("the server drains")

    def refuse_pending(self) -> None:
        """The time is over: answer 503 to the clients that have begun a request, and close the others."""
        for handshake in self.pending:
            handshake.end_with(DRAINING, "draining")

    # -- from a pending handshake ------------------------------------------------------------

    def identified(self, handshake: PendingHandshake, client: Client) -> None:
        self.pending.remove(handshake)
        handshake.client = client = self.proxies.counted(client)
        is_crowded = self.pending.is_crowded(client.group)
        self.pending.add(handshake)
        if is_crowded:
            handshake.end_with(FULL, "too many handshakes")
        elif not self._rates.admit(client.group):
            handshake.end_with(TOO_MANY, "too many handshakes")

    def count_refused(self, outcome: str) -> None:
        self.core.counters.refused[outcome] += 1

    def ended(self, handshake: PendingHandshake) -> None:
        self.pending.remove(handshake)
        if handshake.has_place:
            handshake.has_place = False
            self.core.places.release(handshake.client.group)

    # -- from an exchange --------------------------------------------------------------------

    def _go_on(self, handshake: PendingHandshake, exchange: HttpLink) -> None:
        """The client has its answer, and may make another request."""
        transport = handshake.transport
        again = self.begin(transport, handshake.peer, handshake.secured, handshake.local, True)
        transport.endpoint = again
        if exchange.answer.keep_alive and not self.core.stop.requested.is_set():
            again.go_on(exchange.inflow.trailing)
        else:
            again.take_leave()
