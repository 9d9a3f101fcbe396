"""Which clients may begin an opening handshake, and those that are in it."""

from __future__ import annotations

import socket
from contextlib import suppress

from ..wire.transport import Endpoint, Transport
from .addresses import Client, LocalAddress, Proxies, local_address
from .containment import STOPPING
from .core import Core
from .dispatch import FULL, TOO_MANY, Dispatcher
from .limits import HandshakeRates
from .pending_clients import PendingClients
from .pending_handshake import PendingHandshake
from .preamble import Preamble
from .tls import Secured, note_server_name

_FULL_AT_ONCE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Admission:
    """Admits clients to the opening handshake, and owns those that are in it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.pending = PendingClients(core)
        self.proxies = Proxies(core.options.settings)
        self.dispatcher = Dispatcher(core)
        self._rates = HandshakeRates(core.options.settings.max_handshakes_per_second, core.engine.now)
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
        endpoint: Endpoint = handshake
        try:
            if has_header or self._ssl_context is not None:
                endpoint = Preamble(handshake, self.identify if has_header else None, self._ssl_context)
            transport.start(endpoint)
        except OSError as error:
            # It is gone already, or the kernel watches no more descriptors: others are still welcome.
            handshake.drop(f"can't be served: {error}")
        except BaseException:
            handshake.drop("can't be served")
            raise

    def let_begin(self, client: Client) -> bool:
        """Whether ``client`` may begin an opening handshake, if need be instead of another; else count it."""
        if self._rates.admit(client.group) and self.pending.make_room(client.group):
            return True
        self.core.counters.refused["too many handshakes"] += 1
        return False

    def begin(
        self, transport: Transport, client: Client, secured: Secured | None = None, local: LocalAddress = None
    ) -> PendingHandshake:
        """The handshake that will come over ``transport``."""
        return PendingHandshake(
            transport, client, self.pending, secured=secured, local=local, decide=self._decide
        )

    def _turn_away(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
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
            handshake.end_with(STOPPING, "draining")

    # -- from a pending handshake ------------------------------------------------------------

    def identify(self, handshake: PendingHandshake, client: Client) -> None:
        """A proxy has said where the client is. May drop the handshake."""
        self.pending.remove(handshake)
        handshake.client = client = self.proxies.counted(client)
        is_crowded = self.pending.is_crowded(client.group)
        self.pending.add(handshake)
        if is_crowded:
            handshake.end_with(FULL, "too many handshakes")
        elif not self._rates.admit(client.group):
            handshake.end_with(TOO_MANY, "too many handshakes")

    def _decide(self, handshake: PendingHandshake) -> None:
        client, scheme = self.proxies.client_of(handshake.head.headers, handshake.peer)
        if client is not handshake.client:
            self.identify(handshake, client)
        if handshake.is_undecided:
            self.dispatcher.decide(handshake, handshake.request(scheme))
