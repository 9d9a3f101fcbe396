"""The application's hooks on requests: ``process_request`` and ``readiness``.

What they raise costs their own request alone (G5): it gets 500, and the log one record.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible, call_interruptible, refuse_coroutine
from ..request import Request, Response
from .containment import BROKEN, STOPPING, is_cancelled
from .core import Core
from .masking import masked
from .options import ProcessRequest
from .pending_handshake import PendingHandshake

logger = logging.getLogger("trio_ws_app.server")

_READY = Response(200, "ready\n")


@attrs.frozen
class Hooks:
    """Calls the application's hooks in the current context; async ones go on in a task."""

    _core: Core

    def readiness(self, remote: str) -> Response:
        """The answer to a readiness check by ``remote``: what the application lacks, if anything."""
        function = self._core.options.readiness
        try:
            lacking = call_interruptible(function)
            refuse_coroutine(function, lacking, "readiness is a plain function")
            return _READY if lacking is None else Response(503, f"{lacking}\n", {"Retry-After": "1"})
        except BaseException as error:
            return self._response_to("readiness", remote, "/readyz", error)

    def ask(
        self,
        hooks: Iterator[ProcessRequest],
        handshake: PendingHandshake,
        request: Request,
        let_pass: Callable[[], None],
    ) -> None:
        """Ask ``hooks`` in their order, up to the first answer; if none has one, call ``let_pass``."""
        for hook in hooks:
            try:
                answer = call_interruptible(hook, request)
            except BaseException as error:
                self.failed(handshake, error)
                return
            if inspect.isawaitable(answer):
                name = f"process_request for {handshake.client.remote}"
                go_on = partial(self.ask, hooks, handshake, request, let_pass)
                self._core.nursery.start_soon(self._wait_for_answer, answer, handshake, go_on, name=name)
                return
            if answer is not None:
                self._answer(answer, handshake)
                return
        let_pass()

    @enable_ki_protection
    async def _wait_for_answer(
        self, awaitable: Awaitable[object], handshake: PendingHandshake, go_on: Callable[[], None]
    ) -> None:
        with trio.CancelScope() as scope:
            handshake.on_lost = scope.cancel
            if not handshake.is_undecided:
                scope.cancel()
            try:
                answer = await await_interruptible(awaitable)
            except BaseException as error:
                if is_cancelled(error):
                    raise
                self.failed(handshake, error)
                return
            finally:
                handshake.on_lost = None
            if answer is not None:
                self._answer(answer, handshake)
            elif handshake.is_undecided:
                go_on()

    def _answer(self, answer: object, handshake: PendingHandshake) -> None:
        if isinstance(answer, Response):
            handshake.refuse(answer, "answered by the application")
        else:
            error = TypeError(f"process_request returns None or a Response, not {type(answer).__name__}")
            self.failed(handshake, error)

    def failed(self, handshake: PendingHandshake, error: BaseException) -> None:
        """What ``process_request`` has raised, or asked for, is answered with 500."""
        response = self._response_to("process_request", handshake.client.remote, handshake.head.target, error)
        handshake.refuse(response, "process_request failed, or has ended the server")

    def _response_to(self, name: str, remote: str, target: str, error: BaseException) -> Response:
        if self._core.stop.ended_by(error):
            return STOPPING
        where = {"remote": remote, "path": masked(target)}
        text = "%s: %s failed, the request is answered with 500"
        logger.error(text, remote, name, exc_info=error, extra=where)
        return BROKEN
