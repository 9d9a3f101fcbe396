"""Redis behind Sentinels, with ACL users and databases, as it is run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import attrs
import pytest
import trio
from brokers import QUICK
from redis_servers import RedisServer, running_redis, running_sentinel, until
from running import PATIENCE

from trio_ws_app.broker import BrokerUnavailable, Delivery, Gap, History, open_redis_broker

PATIENT = attrs.evolve(QUICK, request=10)  # a failover takes some seconds


@contextmanager
def watched(*options: str) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A primary, its replica, and a Sentinel that knows both."""
    with running_redis("--repl-diskless-sync-delay", "0", *options) as primary:
        replication = ("--replicaof", "127.0.0.1", str(primary.port))
        with running_redis(*replication, *options) as replica, running_sentinel(primary) as sentinel:
            yield primary, replica, sentinel


async def test_sentinels_say_where_the_primary_is_also_after_a_failover() -> None:
    """It is used again once another one is promoted; a Sentinel that does not answer is passed over."""
    with watched() as (primary, replica, sentinel):
        await until(lambda: "num-slaves\n1" in sentinel.cli("SENTINEL", "MASTER", "service"))
        await until(lambda: "master_link_status:up" in replica.cli("INFO", "replication"))
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/service"
        async with open_redis_broker(url, timeouts=PATIENT) as broker, broker.subscribe("t") as messages:
            await broker.publish("t", "before")
            assert await anext(messages) == "before"
            assert "name=trio_ws_app" in primary.cli("CLIENT", "LIST")
            primary.kill()
            with trio.fail_after(PATIENCE):
                assert isinstance(await anext(messages), Gap)
                await broker.publish("t", "after")
                assert await anext(messages) == "after"
            assert "name=trio_ws_app" in replica.cli("CLIENT", "LIST")


async def test_a_service_that_no_sentinel_watches_is_one_line() -> None:
    """The name is in it; a Sentinel's address without the scheme says what to write."""
    with running_redis() as primary, running_sentinel(primary) as sentinel:
        with pytest.raises(BrokerUnavailable, match="watches nothing of the name 'other'"):
            async with open_redis_broker(f"redis+sentinel://127.0.0.1:{sentinel.port}/other", timeouts=QUICK):
                pass
        with pytest.raises(BrokerUnavailable, match=r"write redis\+sentinel://host/service"):
            async with open_redis_broker(sentinel.url, timeouts=QUICK):
                pass


async def test_sentinels_may_have_a_password_of_their_own() -> None:
    """It is a parameter, and another one than the servers'."""
    with (
        running_redis("--requirepass", "inner") as primary,
        running_sentinel(primary, "requirepass outer", "sentinel auth-pass service inner") as sentinel,
    ):
        url = f"redis+sentinel://:inner@127.0.0.1:{sentinel.port}/service"
        async with open_redis_broker(f"{url}?sentinel_password=outer", timeouts=QUICK) as broker:
            await broker.publish("t", "hello")
        with pytest.raises(BrokerUnavailable) as refused:
            async with open_redis_broker(f"{url}?sentinel_password=wrong", timeouts=QUICK):
                pass
    assert not any(secret in str(refused.value) for secret in ("inner", "wrong"))


async def test_an_acl_user_needs_few_rights() -> None:
    """A user with its own keys publishes, follows and keeps histories; its password is never shown."""
    password = "a/b#c?d@e%f"
    rights = ["on", f">{password}", "~ws:*", "&*", "+@all", "-@dangerous", "+client|setname"]
    with running_redis() as redis:
        redis.cli("ACL", "SETUSER", "chat", *rights)
        redis.cli("ACL", "SETUSER", "default", "off")
        url = f"redis://chat:{quote(password, safe='')}@127.0.0.1:{redis.port}"
        async with open_redis_broker(url, timeouts=PATIENT) as broker, broker.subscribe("t") as messages:
            await broker.publish("t", "hello", history=History(10, 60))
            item = await anext(messages)
            assert item == "hello"
            async with broker.join("t", {"user": "ann"}):
                assert len(await broker.presence("t")) == 1
        with pytest.raises(BrokerUnavailable) as refused:
            async with open_redis_broker(url.replace("chat", "other"), timeouts=QUICK):
                pass
    assert password not in str(refused.value)
    assert quote(password, safe="") not in str(refused.value)


async def test_histories_are_in_the_database_of_the_url(own_redis: RedisServer) -> None:
    """Those of another database are others; messages are seen in all."""
    async with (
        open_redis_broker(f"{own_redis.url}/3", timeouts=QUICK) as three,
        open_redis_broker(f"{own_redis.url}?db=4", timeouts=QUICK) as four,
        four.subscribe("t") as messages,
    ):
        await three.publish("t", "hello", history=History(10, 60))
        assert await anext(messages) == "hello"
        assert [item.message for item in await three.history("t") if isinstance(item, Delivery)] == ["hello"]
        assert await four.history("t") == []
        assert own_redis.cli("-n", "3", "DBSIZE") != "0"
        assert own_redis.cli("-n", "0", "DBSIZE") == "0"
