"""The WebSockets of an ASGI application: a task each, from the handshake to the end of the connection."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import ExitStack

from trio.lowlevel import enable_ki_protection

from ..asgi.application import websocket_scope
from ..asgi.websocket import WebSocketSession
from ..callbacks import await_interruptible, leaves
from ..errors import CloseCode
from ..request import Request, Response
from ..wire.connection import WireConnection
from .connections import Connections
from .containment import BROKEN, STOPPING, is_cancelled, says_client_is_gone
from .core import Core
from .masking import masked
from .pending_handshake import PendingHandshake

logger = logging.getLogger("trio_ws_app.server")


class AsgiWebSockets:
    """Runs the application for handshakes."""

    def __init__(self, core: Core, connections: Connections) -> None:
        self._core = core
        self._connections = connections

    def start(self, handshake: PendingHandshake, request: Request) -> None:
        """Have the application answer a handshake that could be accepted."""
        self._core.nursery.start_soon(self._serve, handshake, request, name=f"WebSocket {request.path}")

    @enable_ki_protection
    async def _serve(self, handshake: PendingHandshake, request: Request) -> None:
        application = self._core.options.http
        assert application is not None
        with ExitStack() as until_end:
            session = self._session(handshake, request, until_end)
            scope = websocket_scope(request, self._core.options.state, session)
            code: int | None = CloseCode.NORMAL
            try:
                with session.scope:
                    await await_interruptible(application(scope, session.receive, session.send))
                if session.connection is None and handshake.is_undecided:
                    raise RuntimeError("the application has neither accepted nor refused the WebSocket")
            except BaseException as error:
                code = self._failed(error, session, handshake, masked(request.target))
        if session.connection is not None:
            await self._connections.conclude(session.connection, handshake.client.group, code)

    def _session(
        self, handshake: PendingHandshake, request: Request, until_end: ExitStack
    ) -> WebSocketSession:
        def accept(subprotocol: str | None, headers: Iterable[tuple[str, str]]) -> WireConnection:
            request.upgrade.subprotocol = subprotocol
            request.upgrade.headers += headers
            connection = self._connections.accept(handshake, request)
            handshake.on_lost = None
            if self._core.options.cancel_on_disconnect:
                until_end.enter_context(connection.cancel_when_gone(session.scope))
            return connection

        def refuse(response: Response) -> None:
            handshake.on_lost = None
            handshake.refuse(response, "refused by the application")

        session = WebSocketSession(accept, refuse)
        handshake.on_lost = session.lose
        if not handshake.is_undecided:
            session.lose()
        return session

    def _failed(
        self, error: BaseException, session: WebSocketSession, handshake: PendingHandshake, path: str
    ) -> int | None:
        """What the application has raised becomes a close code; before it has accepted, an HTTP answer."""
        if session.connection is not None:
            return self._connections.close_code(error, session.connection)
        if self._core.stop.ended_by(error):
            handshake.refuse(STOPPING, "the application has ended the server")
        elif is_cancelled(error):
            handshake.refuse(STOPPING, "draining")
        elif handshake.is_undecided or not all(map(says_client_is_gone, leaves(error))):
            where = {"remote": handshake.client.remote, "path": path}
            text = "%s: the application failed, the WebSocket handshake is answered with 500"
            logger.error(text, path, exc_info=error, extra=where)
            handshake.refuse(BROKEN, "the application failed")
        return None
