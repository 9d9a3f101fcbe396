"""What the peer did wrong, as the close code that answers it."""

from __future__ import annotations

from ..errors import CloseCode


class ProtocolError(Exception):
    """The peer broke RFC 6455, RFC 7692 or a limit: fail the connection with ``code`` and this text.

    The only exception that received bytes cause. The text fits into a Close frame's reason and quotes
    nothing that the peer sent.
    """

    def __init__(self, code: CloseCode, text: str) -> None:
        super().__init__(text)
        self.code = code
