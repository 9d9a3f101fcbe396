"""A subscription begins with its block, ends with it, and costs the others nothing."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
import trio.testing
from brokers import next_of

from trio_ws_app.broker import Broker, Gap, Subscription


async def test_a_subscription_holds_when_its_block_begins(broker: Broker, topic: str) -> None:
    """What is published right after entering arrives, every time: entering waits for the acknowledgement."""
    for number in range(50):
        async with broker.subscribe(topic) as messages:
            await broker.publish(topic, str(number))
            assert await next_of(messages) == str(number)


async def test_a_subscription_ends_with_its_block(broker: Broker, topic: str) -> None:
    """Nothing published after the block reaches the old subscription."""
    async with broker.subscribe(topic) as old:
        pass
    async with broker.subscribe(topic) as new:
        await broker.publish(topic, "later")
        assert await next_of(new) == "later"
    assert old.queued_bytes == 0
    assert broker.statistics().topics == 0


async def test_an_error_in_the_block_ends_the_subscription(broker: Broker, topic: str) -> None:
    """Whatever ends the block ends the subscription, and the error comes out as itself."""
    with pytest.raises(KeyError):
        async with broker.subscribe(topic):
            raise KeyError
    assert broker.statistics().topics == 0


async def test_leaving_does_not_disturb_other_subscriptions(broker: Broker, topic: str) -> None:
    """Of two subscriptions to one topic, the second goes on when the first ends."""
    async with broker.subscribe(topic) as staying:
        async with broker.subscribe(topic):
            await broker.publish(topic, "both")
        await broker.publish(topic, "one")
        assert [await next_of(staying), await next_of(staying)] == ["both", "one"]


async def test_subscriptions_come_and_go_at_once(broker: Broker, topic: str) -> None:
    """Tasks that enter and leave the same topic all the time get all of their own messages, each once."""

    async def visitor(name: str) -> None:
        for number in range(20):
            async with broker.subscribe(topic) as messages:
                mine = f"{name} {number}"
                await broker.publish(topic, mine)
                seen = [await next_of(messages)]
                while seen[-1] != mine:
                    seen.append(await next_of(messages))
                assert len(set(seen)) == len(seen)

    async with trio.open_nursery() as nursery:
        for index in range(10):
            nursery.start_soon(visitor, f"visitor {index}")
    assert broker.statistics().topics == 0


@pytest.mark.parametrize("ticks", range(12))
async def test_cancelling_while_subscribing_leaves_nothing(broker: Broker, topic: str, ticks: int) -> None:
    """Wherever the entering of a subscription is cancelled, nothing of it stays and the topic works."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(cancel)
            async with broker.subscribe(topic):
                await trio.sleep_forever()
    assert broker.statistics().topics == 0
    async with broker.subscribe(topic) as messages:
        await broker.publish(topic, "works")
        assert await next_of(messages) == "works"


async def test_cancelling_a_wait_loses_nothing(broker: Broker, topic: str) -> None:
    """A wait for the next message can be cancelled at any time without losing or repeating one."""
    seen: list[str | bytes | Gap] = []
    async with broker.subscribe(topic) as messages, trio.open_nursery() as nursery:

        async def publish() -> None:
            for number in range(200):
                await broker.publish(topic, str(number))

        nursery.start_soon(publish)
        with trio.fail_after(10):
            ticks = 0
            while len(seen) < 200:
                ticks = (ticks + 1) % 5
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as inner:
                        inner.start_soon(partial(_cancel_after, scope, ticks))
                        seen.append(await anext(messages))
                        inner.cancel_scope.cancel()
    assert seen == [str(number) for number in range(200)]


async def _cancel_after(scope: trio.CancelScope, ticks: int) -> None:
    for _ in range(ticks):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_one_task_at_a_time_takes_messages(broker: Broker, topic: str) -> None:
    """A second task that waits for the same subscription gets Trio's own error."""
    async with broker.subscribe(topic) as messages, trio.open_nursery() as nursery:
        nursery.start_soon(anext, messages)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(messages)
        nursery.cancel_scope.cancel()


async def test_two_tasks_that_begin_to_wait_together(broker: Broker, topic: str) -> None:
    """One of them gets Trio's own error, also if other tasks have their turn before it waits."""
    async with broker.subscribe(topic) as messages:
        for number in range(63):
            await broker.publish(topic, str(number))
            assert await anext(messages) == str(number)
        with pytest.raises(ExceptionGroup) as caught:
            await _take_twice(messages)
        assert caught.group_contains(trio.BusyResourceError)


async def _take_twice(messages: Subscription) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(anext, messages)


async def test_a_failing_sink_costs_only_itself(
    broker: Broker, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A sink that raises is logged once a message, and the topic's other sinks get everything."""

    errors_raised = [ZeroDivisionError, GeneratorExit]

    def fail(_item: object) -> None:
        raise errors_raised.pop()

    async with broker.attach(topic, fail), broker.subscribe(topic) as messages:
        await broker.publish(topic, "a")
        await broker.publish(topic, "b")
        assert [await next_of(messages), await next_of(messages)] == ["a", "b"]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["trio_ws_app.broker"] * 2
    caplog.clear()
