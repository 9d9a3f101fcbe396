"""What the operating system said when a server could not be reached."""

from __future__ import annotations

import os
import socket
import ssl


def system_error(problem: BaseException) -> str:
    """What the system said; Trio tries several addresses, and puts their errors together."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    if isinstance(problem.__cause__, OSError | BaseExceptionGroup):
        return system_error(problem.__cause__)
    if isinstance(problem, OSError) and not isinstance(problem, socket.gaierror | ssl.SSLError):
        return os.strerror(problem.errno) if problem.errno else str(problem)
    return getattr(problem, "strerror", None) or str(problem)
