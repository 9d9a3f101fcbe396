"""``Routes``: a handler for each path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple
from uuid import UUID

from ..connection import Connection
from ..errors import CloseCode
from ..request import Request, Response
from .options import Handler, check_handler

_LONGEST_NUMBER = 40  # digits; Python refuses to read thousands of them
_UUID = "-".join(f"[0-9a-fA-F]{{{size}}}" for size in (8, 4, 4, 4, 12))

# The names and the meaning are Starlette's.
_CONVERTERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "str": ("[^/]+", str),
    "int": (f"[0-9]{{1,{_LONGEST_NUMBER}}}", int),
    "float": (f"[0-9]{{1,{_LONGEST_NUMBER}}}(?:\\.[0-9]{{1,{_LONGEST_NUMBER}}})?", float),
    "uuid": (_UUID, UUID),
    "path": (".*", str),
}
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")
_NOT_FOUND = Response(404, "There is nothing at this path.\n")


class _Route(NamedTuple):
    pattern: re.Pattern[str]
    converters: Mapping[str, Callable[[str], object]]
    handler: Handler

    def match(self, path: str) -> Mapping[str, object] | None:
        """The parameters in ``path``, or None if this is another's."""
        match = self.pattern.fullmatch(path)
        if match is None:
            return None
        return {name: convert(match[name]) for name, convert in self.converters.items()}


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
        self._routes: list[_Route] = []
        for path, handler in handlers.items():
            check_handler(handler)
            if not path.startswith("/"):
                raise ValueError(f"the path of a route begins with a slash, which {path!r} does not")
            if "{" in path or "}" in path:
                self._routes.append(_route(path, handler))
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
        handler = self._fixed.get(path)
        if handler is not None:
            return handler
        for route in self._routes:
            params = route.match(path)
            if params is not None:
                request.set_path_params(params)
                return route.handler
        return None


def _route(path: str, handler: Handler) -> _Route:
    pattern, end, converters = "", 0, dict[str, Callable[[str], object]]()
    for parameter in _PARAMETER.finditer(path):
        name, kind = parameter[1], parameter[2] or "str"
        if name in converters:
            raise ValueError(f"the path {path!r} has the parameter {name!r} twice")
        if kind not in _CONVERTERS:
            raise ValueError(f"the type {kind!r} in {path!r} is none of {', '.join(_CONVERTERS)}")
        expression, converters[name] = _CONVERTERS[kind]
        pattern += f"{_literal(path, end, parameter.start())}(?P<{name}>{expression})"
        end = parameter.end()
    return _Route(re.compile(pattern + _literal(path, end, len(path)), re.DOTALL), converters, handler)


def _literal(path: str, start: int, end: int) -> str:
    text = path[start:end]
    if "{" in text or "}" in text:
        raise ValueError(f"{path!r} has a brace that belongs to no parameter: write {{name}} or {{name:int}}")
    return re.escape(text)
