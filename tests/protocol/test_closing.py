"""The Close frame: what it may carry, and what answers it."""

from __future__ import annotations

import pytest

from trio_ws_app.errors import MAX_REASON_BYTES, CloseCode, CloseReason
from trio_ws_app.protocol.closing import close_payload, close_reply, read_close


@pytest.mark.parametrize(
    "close", [CloseReason(1000), CloseReason(1001, "going"), CloseReason(4321, "grüß" * 15)]
)
def test_the_reply_repeats_code_and_reason(close: CloseReason) -> None:
    """The peer reads in the answer what it has sent itself."""
    assert read_close(close_reply(close)) == close


def test_the_reply_to_an_empty_close_is_empty() -> None:
    """1005 stands for no code and is never sent; the answer carries none either."""
    assert close_reply(read_close(b"")) == b""


@pytest.mark.parametrize("code", [1000, 1014, 3000, 4999])
def test_every_close_that_may_come_can_be_answered(code: int) -> None:
    """What is legal from the peer, with the longest reason too, is legal in the reply."""
    payload = code.to_bytes(2, "big") + b"x" * MAX_REASON_BYTES
    assert close_reply(read_close(payload)) == payload


@pytest.mark.parametrize("code", [0, 999, CloseCode.NO_STATUS, CloseCode.ABNORMAL, 1015, 2999, 5000, 65_536])
def test_a_code_that_may_not_be_sent_is_a_mistake(code: int) -> None:
    """1005 and 1006 stand for what was not sent, the others are reserved."""
    with pytest.raises(ValueError, match="may not be sent"):
        close_payload(code)


def test_a_reason_has_a_limit_in_bytes() -> None:
    """123 bytes fit, encoded as UTF-8, and one more does not."""
    assert len(close_payload(1000, "é" * 61 + "x")) == 125
    with pytest.raises(ValueError, match="has 124"):
        close_payload(1000, "é" * 62)
