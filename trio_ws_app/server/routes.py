"""``Routes``: a handler for each path."""

from __future__ import annotations

from collections.abc import Mapping

from ..connection import Connection
from ..errors import CloseCode
from ..request import Request, Response
from .options import Handler, check_handler
from .parameters import Pattern, has_parameters, pattern

_NOT_FOUND = Response(404, "There is nothing at this path.\n")


class Routes:
    """A handler that has a handler for each path: ``Routes({"/room/{name}": room, "/jobs/{id:int}": job})``.

    A parameter is ``{name}``, a part without a slash, or has a type: ``int``, ``float``, ``uuid``, ``str``,
    or ``path``, which takes slashes too. ``request.path_params`` has them, converted, for the handler and for
    ``process_request``. Of several paths that match, one without parameters is taken, else the first. A
    path that no route has gets 404 before the upgrade, after ``process_request`` has had its word.

    Raises ValueError for a path that makes no sense, and TypeError for a handler that is none.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._fixed: dict[str, Handler] = {}
        self._routes: list[tuple[Pattern, Handler]] = []
        for path, handler in handlers.items():
            check_handler(handler)
            if not path.startswith("/"):
                raise ValueError(f"the path of a route begins with a slash, which {path!r} does not")
            if has_parameters(path):
                self._routes.append((pattern(path), handler))
            else:
                self._fixed[path] = handler

    async def __call__(self, connection: Connection) -> None:
        """Run the handler of the connection's path; without one, close with 1008."""
        found = self._find(connection.request)
        if found is None:
            await connection.aclose(CloseCode.POLICY_VIOLATION, "there is nothing at this path")
        else:
            await found(connection)

    def match(self, request: Request) -> None:
        """Set ``request.path_params``: the first of the hooks, so that the others see them."""
        self._find(request)

    def refuse_unknown(self, request: Request) -> Response | None:
        """Answer 404 if no route has the path: the last of the hooks."""
        return _NOT_FOUND if self._find(request) is None else None

    def _find(self, request: Request) -> Handler | None:
        path = request.path
        if path in self._fixed:
            return self._fixed[path]
        for route, handler in self._routes:
            params = route.match(path)
            if params is not None:
                request.set_path_params(params)
                return handler
        return None
