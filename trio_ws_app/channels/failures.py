"""What an error of the application means to one client: a refusal, or a bug and its record (G5)."""

from __future__ import annotations

import logging

import trio

from ..broker.base import BrokerUnavailable
from ..callbacks import interrupt_in, leaves
from ..errors import ConnectionClosed
from .client import ConnectedClient
from .codes import ErrorCode, Refuse

logger = logging.getLogger("trio_ws_app.channels")


def judge(error: BaseException, client: ConnectedClient, what: str) -> Refuse | None:
    """The refusal that the client is told; None if it was only cancelled, or has gone.

    A bug becomes one ERROR record with its traceback, and error 100. Raises KeyboardInterrupt and SystemExit,
    which end more than one client.
    """
    if interrupt_in(error) is not None:
        raise error
    failures = [leaf for leaf in leaves(error) if not _is_expected(leaf, client)]
    if not failures:
        return None
    refusals = [failure for failure in failures if isinstance(failure, Refuse)]
    conditions = [failure for failure in failures if isinstance(failure, BrokerUnavailable)]
    if len(refusals) + len(conditions) < len(failures):
        _log(logging.ERROR, f"{what} failed", client, error)
        return Refuse(ErrorCode.INTERNAL)
    if refusals:
        return refusals[0]
    _log(logging.WARNING, f"{what}: {conditions[0]}", client, None)
    return Refuse(ErrorCode.INTERNAL)


def _is_expected(leaf: BaseException, client: ConnectedClient) -> bool:
    if isinstance(leaf, ConnectionClosed):
        return leaf.connection is client.connection
    return isinstance(leaf, trio.Cancelled)


def _log(level: int, text: str, client: ConnectedClient, error: BaseException | None) -> None:
    logger.log(
        level,
        "%s: %s",
        client.connection.id,
        text,
        exc_info=error,
        extra={"connection": client.connection.id, "remote": client.connection.remote},
    )
