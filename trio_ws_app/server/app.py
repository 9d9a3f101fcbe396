"""``App``: what an application has beside its handler."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..asgi.application import Application
from ..json_codec import JsonCodec
from .options import Handler, ProcessRequest, Readiness, always_ready, check_handler
from .routes import Routes

Hooks = ProcessRequest | Sequence[ProcessRequest] | None


def hooks_in(hooks: Hooks) -> tuple[ProcessRequest, ...]:
    """One hook, several, or none, as several. Raises TypeError for what can't be called."""
    several = () if hooks is None else (hooks,) if callable(hooks) else tuple(hooks)
    for hook in several:
        if not callable(hook):
            raise TypeError(f"process_request is a function or a list of functions, not {hook!r}")
    return several


_is_codec = attrs.validators.optional(attrs.validators.instance_of(JsonCodec))


@attrs.frozen
class App:
    """An application, as ``serve`` and the command line take it: a handler and what belongs to it.

    ``handler(connection)`` is an async function, or ``Routes``. ``process_request``, one function or a list,
    plain or async, sees each request before the upgrade: the first ``Response`` is the answer, and None lets
    the next one look. What they put into ``request.state`` the handler finds there; ``request.upgrade`` takes
    headers and the subprotocol for the answer 101. With ``cancel_on_disconnect`` a handler is cancelled when
    its peer is gone. ``json`` is what connections read and write JSON with, instead of the setting.
    ``readiness()`` says in one line what the application lacks just now, or None.

    ``http`` is an ASGI application that answers every request that is no WebSocket handshake. Hooks given to
    ``serve`` see these as well, the ``process_request`` here does not. It is asked for ``/healthz`` and
    ``/readyz`` too, which the server answers if its answer is 404. Its lifespan begins before the server's
    and ends after it. Without a handler, WebSockets are the ASGI application's too.

    Raises TypeError for a handler, a hook, an application or a codec of a wrong type.
    """

    handler: Handler | None = None
    process_request: tuple[ProcessRequest, ...] = attrs.field(default=(), converter=hooks_in, kw_only=True)
    cancel_on_disconnect: bool = attrs.field(default=False, kw_only=True)
    json: JsonCodec | None = attrs.field(default=None, validator=_is_codec, kw_only=True)
    readiness: Readiness = attrs.field(default=always_ready, kw_only=True)
    http: Application | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.is_callable()), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.handler is None and self.http is None:
            raise TypeError(
                "the handler must be an async function that takes a connection, not None; "
                "without one, http= has to be an ASGI application"
            )
        if self.handler is not None:
            check_handler(self.handler)

    def hooks(self, before: Hooks = None) -> tuple[ProcessRequest, ...]:
        """All that look at a request: those ``before``, then the application's, within what routes say."""
        hooks = (*hooks_in(before), *self.process_request)
        if isinstance(self.handler, Routes):
            return (self.handler.match, *hooks, self.handler.refuse_unknown)
        return hooks


def as_app(thing: Handler | App) -> App:
    """A handler as the application that has nothing else. Raises TypeError if it is neither."""
    return thing if isinstance(thing, App) else App(thing)
