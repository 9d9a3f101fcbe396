"""What holds for Redis besides what holds for every broker: other programs, TLS, sockets, passwords."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import trio
import trustme
from redis_servers import RedisServer, free_port, require_redis, running_redis, until
from running import PATIENCE

from trio_ws_app.broker import BrokerUnavailable, RedisTimeouts, Subscription, open_redis_broker


async def expect(subscription: Subscription, *items: object) -> None:
    with trio.fail_after(10):
        assert [await anext(subscription) for _ in items] == list(items)


async def test_other_programs_take_part(redis_server: RedisServer) -> None:
    """``redis-cli PUBLISH`` reaches subscribers here, and texts published here are plain for others."""
    async with open_redis_broker(redis_server.url) as broker:
        async with broker.subscribe("news") as messages:
            published = await redis_server.run("PUBLISH", "news", "Grüße")
            assert published == "1"
            await expect(messages, "Grüße")
        listener = ["redis-cli", "-p", str(redis_server.port), "--csv", "SUBSCRIBE", "news"]
        process = await trio.lowlevel.open_process(listener, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with trio.fail_after(10):
            heard = await process.stdout.receive_some()
            await broker.publish("news", "plain")
            while b"plain" not in heard:
                heard += await process.stdout.receive_some()
        assert heard.splitlines()[-1] == b'"message","news","plain"'
        process.kill()
        await process.wait()
        await process.stdout.aclose()


async def test_processes_share_topics(redis_server: RedisServer) -> None:
    """What one broker publishes, subscribers of another broker on the same Redis get."""
    async with open_redis_broker(redis_server.url) as here, open_redis_broker(redis_server.url) as there:
        assert here.shared
        async with here.subscribe("t") as first, there.subscribe("t") as second:
            await here.publish("t", "text")
            await there.publish("t", b"bytes")
            await expect(first, "text", b"bytes")
            await expect(second, "text", b"bytes")


async def test_a_topic_is_subscribed_once_for_all_subscriptions(own_redis: RedisServer) -> None:
    """However many subscribe here, Redis sees one subscriber, from the first until the last leaves."""
    async with open_redis_broker(own_redis.url) as broker:

        async def subscribers() -> str:
            return await own_redis.run("PUBSUB", "NUMSUB", "t")

        async with broker.subscribe("t"):
            async with broker.subscribe("t"), broker.subscribe("t"):
                assert (await subscribers()).split() == ["t", "1"]
            assert (await subscribers()).split() == ["t", "1"]
        async with broker.subscribe("u"):  # acknowledged after the end of the one before
            assert (await subscribers()).split() == ["t", "0"]


async def test_nothing_is_left_at_redis(own_redis: RedisServer) -> None:
    """When the broker's block ends, its connections are gone from the server."""
    before = await own_redis.run("CLIENT", "LIST", "TYPE", "pubsub")
    async with open_redis_broker(own_redis.url) as broker, broker.subscribe("t"):
        clients = await own_redis.run("CLIENT", "LIST")
        assert clients.count("name=trio_ws_app") == 2
    clients = await own_redis.run("CLIENT", "LIST")
    assert before == ""
    assert "name=trio_ws_app" not in clients


async def test_no_descriptor_and_no_task_is_left(own_redis: RedisServer) -> None:
    """When the broker's block ends, its sockets are closed and its tasks are over, also after an absence."""
    before = set(os.listdir("/proc/self/fd"))
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_redis_broker(own_redis.url) as broker, broker.subscribe("t"):
        await broker.publish("t", "hello")
        own_redis.kill()
        await until(lambda: broker.problem is not None)
    assert set(os.listdir("/proc/self/fd")) == before
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_an_error_in_the_block_comes_out_as_itself(redis_server: RedisServer) -> None:
    """The broker's own nursery wraps nothing around an application's error."""
    with pytest.raises(KeyError):
        async with open_redis_broker(redis_server.url):
            raise KeyError


async def test_an_error_while_cancelled_comes_out_as_itself(redis_server: RedisServer) -> None:
    """What the block raises while it is cancelled is not lost in the cancellation of the broker's tasks."""

    async def fail_in_the_clean_up() -> None:
        with trio.CancelScope() as scope:
            async with open_redis_broker(redis_server.url):
                scope.cancel()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled:
                    raise KeyError from None

    with pytest.raises(KeyError):
        await fail_in_the_clean_up()


async def test_unix_socket(tmp_path: Path) -> None:
    """``unix://`` reaches a server that listens on a socket in the file system."""
    path = tmp_path / "redis.sock"
    with running_redis("--unixsocket", str(path)) as server:
        server.cli("PING")  # it listens on the port a moment before
        async with open_redis_broker(f"unix://{path}") as broker, broker.subscribe("t") as messages:
            await broker.publish("t", "hello")
            await expect(messages, "hello")


async def test_password() -> None:
    """The right password works; a wrong or missing one is told in one line."""
    with running_redis("--requirepass", "s3cret@") as server:
        async with open_redis_broker(f"redis://:s3cret%40@127.0.0.1:{server.port}") as broker:
            await broker.publish("t", "hello")
        for url, words in (
            (server.url, "it wants a password"),
            (f"redis://:wrong@127.0.0.1:{server.port}", "invalid username-password pair"),
        ):
            with pytest.raises(BrokerUnavailable, match=words) as caught:
                async with open_redis_broker(url):
                    pass
            assert "\n" not in str(caught.value)


async def test_tls(tmp_path: Path) -> None:
    """``rediss://`` encrypts and verifies: an unknown authority or a wrong name is refused."""
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name in ("ca-cert-file=ca", "cert-file=cert", "key-file=key"):
        option, file = name.split("=")
        options += [f"--tls-{option}", str(tmp_path / f"{file}.pem")]
    with running_redis(*options):
        query = f"?ssl_ca_certs={tmp_path / 'ca.pem'}"
        url = f"rediss://localhost:{port}{query}"
        async with open_redis_broker(url) as broker, broker.subscribe("t") as messages:
            await broker.publish("t", "hello")
            await expect(messages, "hello")
        for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}{query}"):
            with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
                async with open_redis_broker(url):
                    pass


async def test_a_sentinel_is_no_server(tmp_path: Path) -> None:
    """The address of a Sentinel is told from that of a server, in one line."""
    configuration = tmp_path / "sentinel.conf"
    port = free_port()
    configuration.write_text(f"port {port}\nbind 127.0.0.1\n")
    require_redis()
    command = ["redis-server", str(configuration), "--sentinel"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL)
    try:
        await until(lambda: _listens(port))
        with pytest.raises(BrokerUnavailable, match="it is a Sentinel"):
            async with open_redis_broker(f"redis://127.0.0.1:{port}"):
                pass
    finally:
        process.kill()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_no_server_listens() -> None:
    """Opening a broker fails at once if nothing listens, with one line that names the place."""
    port = free_port()
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}"), trio.fail_after(PATIENCE):
        async with open_redis_broker(f"redis://127.0.0.1:{port}"):
            pass


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"+OK\r\n", b"", b"-ERR no\r\n"]
)
async def test_something_else_is_there(answer: bytes) -> None:
    """A server that is no Redis is told in one line, whatever it says."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{port}"), trio.fail_after(PATIENCE):
            async with open_redis_broker(f"redis://127.0.0.1:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_a_silent_server_is_given_up() -> None:
    """A server that accepts and says nothing costs at most the time to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(PATIENCE):
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=r"does not answer within 0\.1 s"):
            async with open_redis_broker(url, timeouts=RedisTimeouts(connect=0.1)):
                pass


async def test_topics_that_redis_refuses() -> None:
    """Where the user may not use a topic, subscribing and publishing say so, and other topics work."""
    rules = ("default", "on", "nopass", "+@all", "resetchannels", "&allowed:*")
    with running_redis("--user", *rules) as server:
        async with open_redis_broker(server.url) as broker, broker.subscribe("allowed:1") as messages:
            refused = pytest.raises(BrokerUnavailable, match="refuses the topic 'secret'")
            with refused, trio.fail_after(PATIENCE):
                async with broker.subscribe("secret"):
                    pass
            with pytest.raises(BrokerUnavailable, match="refuses to publish"):
                await broker.publish("secret", "x")
            await broker.publish("allowed:1", "hello")
            await expect(messages, "hello")
            assert broker.statistics().topics == 1
            assert broker.problem is None


async def test_a_burst_leaves_turns_to_others(redis_server: RedisServer) -> None:
    """While much is delivered at once, other tasks of the process go on."""
    delivered = turns = 0

    def work(_item: object) -> None:
        nonlocal delivered
        delivered += 1
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass

    async with (
        open_redis_broker(redis_server.url, timeouts=RedisTimeouts(request=30)) as broker,
        broker.attach("burst", work),
        trio.open_nursery() as nursery,
    ):
        for _ in range(500):
            nursery.start_soon(broker.publish, "burst", "")
        with trio.fail_after(30):
            while delivered < 500:
                await trio.lowlevel.checkpoint()
                turns += delivered > 0
    assert turns > 50
