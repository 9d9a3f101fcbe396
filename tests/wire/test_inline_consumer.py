"""A plain consumer: called while there are messages and the peer takes its answers, by the one rule."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import pytest
from wire_ends import ScriptedTransport

from trio_ws_app.protocol.decoder import Decoder
from trio_ws_app.wire.inbox import Inbox
from trio_ws_app.wire.inline import InlineConsumer
from trio_ws_app.wire.outbox import WRITE_LIMIT, Outbox

user: ContextVar[str] = ContextVar("user", default="unset")


def consumer(
    function: Callable[[str | bytes], object], messages: list[str], room: int = 1 << 30
) -> tuple[InlineConsumer, Inbox, Outbox]:
    """A consumer for what lies in the inbox, with an outbox whose transport takes ``room`` bytes."""
    inbox, outbox = Inbox(1000, Decoder(None, 16)), Outbox(ScriptedTransport(room), 1 << 20)
    inbox.messages.extend(messages)
    return InlineConsumer(function, inbox, outbox), inbox, outbox


def test_a_plain_consumer_gets_every_message() -> None:
    """Those that come while it is called, too."""
    seen: list[str | bytes] = []

    def consume(message: str | bytes) -> None:
        seen.append(message)
        if message == "b":
            inbox.messages.append("c")

    inline, inbox, _ = consumer(consume, ["a", "b"])
    assert inline.run()
    assert seen == ["a", "b", "c"]


def test_a_plain_consumer_is_not_called_while_the_peer_takes_no_answers() -> None:
    """The messages wait; as soon as there is room it goes on."""
    seen: list[str | bytes] = []

    def answer(message: str | bytes) -> None:
        seen.append(message)
        outbox.push(bytes(WRITE_LIMIT))

    inline, inbox, outbox = consumer(answer, ["a", "b", "c"], room=WRITE_LIMIT)
    assert inline.run()
    assert seen == ["a"]
    outbox.write()
    assert inline.run()
    outbox.write()
    assert inline.run()
    assert seen == ["a", "b"]
    assert inbox.count() == 1


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_a_plain_consumer_raises_is_kept(kind: type[BaseException]) -> None:
    """It is not called again, and the messages behind that one stay."""

    def fail(_message: str | bytes) -> None:
        raise kind

    inline, inbox, _ = consumer(fail, ["a", "b"])
    assert not inline.run()
    assert isinstance(inline.error, kind)
    assert not inline.run()
    assert inbox.count() == 1


def test_a_plain_consumer_that_returns_a_coroutine_is_refused() -> None:
    """No task would await it."""

    async def consume(_message: str | bytes) -> None: ...

    inline, _, _ = consumer(consume, ["a"])
    assert not inline.run()
    assert isinstance(inline.error, TypeError)


def test_a_plain_consumer_is_not_called_within_itself() -> None:
    """What it does may give it messages: they come when it has returned."""
    depths: list[bool] = []

    def consume(message: str | bytes) -> None:
        if message == "a":
            inbox.messages.append("b")
            assert inline.running
            assert inline.run()
        depths.append(message == "b")

    inline, inbox, _ = consumer(consume, ["a"])
    assert inline.run()
    assert depths == [False, True]
    assert inline.error is None


def test_a_plain_consumer_that_was_stopped_is_not_called() -> None:
    """Also when it stops itself: what lies behind that message stays."""
    seen: list[str | bytes] = []

    def stop(message: str | bytes) -> None:
        seen.append(message)
        inline.stop()

    inline, inbox, _ = consumer(stop, ["a", "b"])
    assert not inline.run()
    assert not inline.run()
    assert seen == ["a"]
    assert inbox.count() == 1


def test_a_plain_consumer_has_a_context_of_its_own() -> None:
    """It begins as a copy, what it sets stays in it, and is seen by its next call alone."""
    seen: list[str] = []

    def consume(message: str | bytes) -> None:
        seen.append(user.get())
        user.set(str(message))

    user.set("caller")
    inline, inbox, _ = consumer(consume, ["a"])
    inline.run()
    inbox.messages.append("b")
    inline.run()
    assert seen == ["caller", "a"]
    assert user.get() == "caller"
