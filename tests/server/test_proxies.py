"""Where a client is that comes through proxies: said by those that are trusted, and by no others."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from certificates import presenting, trusting
from running import PATIENCE
from serving import get, serving, upgrade

import trio_ws_app as ws
from trio_ws_app.server.addresses import ip_client
from trio_ws_app.testing import serve_in_memory

PROXY = "127.0.0.1"
STRANGER = "127.0.0.66"
CLIENT = "203.0.113.7"
TRUSTING = ws.Settings(trusted_proxies=(PROXY, "10.0.0.0/8", "unix"))
SPEAKING = ws.Settings(proxy_protocol=True, trusted_proxies=(PROXY, "10.0.0.0/8"))
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
VERSION_1 = f"PROXY TCP4 {CLIENT} 127.0.0.1 4711 80\r\n".encode()
VERSION_2 = (
    SIGNATURE + b"\x21\x11" + struct.pack("!H4s4sHH", 19, bytes([203, 0, 113, 7]), bytes(4), 4711, 80)
    + b"\x04\x00\x04abcd"
)  # fmt: skip
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


async def whereabouts(connection: ws.Connection) -> None:
    """Says where it thinks that its client is."""
    request = connection.request
    host, port = request.client or ("", 0)
    await connection.send(f"{host} {port} {request.scheme} {connection.remote}")


async def open_from(port: int, host: str = PROXY) -> trio.SocketStream:
    """A connection from ``host``, an address of loopback."""
    sock = trio.socket.socket()
    await sock.bind((host, 0))
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


async def answer(stream: trio.abc.ReceiveStream, ends: tuple[bytes, ...] = (b"\x88",)) -> bytes:
    data = b""
    while not any(end in data for end in ends) and (more := await stream.receive_some()):
        data += more
    return data


def said(data: bytes) -> str:
    """The first message in what a server has answered, or the status."""
    head, _, frames = data.partition(b"\r\n\r\n")
    status = head.split()[1].decode() if head else ""
    return frames[2 : 2 + frames[1]].decode() if status == "101" else status


async def asked(port: int, *data: bytes, host: str = PROXY) -> str:
    """What the server says to a client that sends this."""
    async with await open_from(port, host) as stream:
        for part in data:
            await stream.send_all(part)
        try:
            return said(await answer(stream))
        except trio.BrokenResourceError:
            return ""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X_Forwarded_For": CLIENT}, f"{CLIENT} 0 http {CLIENT}"),
        ({"X_Forwarded_For": CLIENT, "X_Forwarded_Proto": "https"}, f"{CLIENT} 0 https {CLIENT}"),
        ({"X_Forwarded_For": f"198.51.100.1, {CLIENT}, 10.1.1.1"}, f"{CLIENT} 0 http {CLIENT}"),
        ({"X_Forwarded_For": "10.0.0.1, 10.0.0.2"}, "10.0.0.1 0 http 10.0.0.1"),
        ({"X_Forwarded_For": "2001:db8::1"}, "2001:db8::1 0 http 2001:db8::1"),
        ({"X_Forwarded_For": "[2001:db8::1]:80"}, "2001:db8::1 80 http [2001:db8::1]:80"),
        ({"X_Forwarded_For": f"::ffff:{CLIENT}"}, f"{CLIENT} 0 http {CLIENT}"),
        ({"Forwarded": f'for="{CLIENT}:99";proto=https'}, f"{CLIENT} 99 https {CLIENT}:99"),
        ({"Forwarded": f"for=unknown, for={CLIENT}, for=10.0.0.1"}, f"{CLIENT} 0 http {CLIENT}"),
        ({"X_Forwarded_For": CLIENT, "Forwarded": "for=198.51.100.1"}, f"{CLIENT} 0 http {CLIENT}"),
    ],
)
async def test_a_trusted_proxy_is_believed(headers: dict[str, str], expected: str) -> None:
    """The first address from the right that is no proxy's is the client's, in the request and in logs."""
    async with serving(whereabouts, settings=TRUSTING) as server:
        assert await asked(server.port, upgrade(**headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": CLIENT, "X_Forwarded_Proto": "https"},
        {"Forwarded": f"for={CLIENT};proto=https"},
        {"X_Forwarded_For": PROXY},
    ],
)
@pytest.mark.parametrize("settings", [TRUSTING, ws.Settings()], ids=["trusting", "default"])
async def test_a_stranger_is_not_believed(headers: dict[str, str], settings: ws.Settings) -> None:
    """A spoofed header from elsewhere changes nothing, nor does one that was not to be looked at."""
    async with serving(whereabouts, settings=settings) as server:
        host, port, scheme, remote = (await asked(server.port, upgrade(**headers), host=STRANGER)).split()
        assert (host, scheme, remote) == (STRANGER, "http", f"{STRANGER}:{port}")


@pytest.mark.parametrize("value", ["unknown", "garbage", "10.0.0.1, unknown", "_x, _y", ", ,", '"'])
async def test_what_is_malformed_falls_back_to_the_last_known_proxy(value: str) -> None:
    """An unknown client is where its nearest known proxy is."""
    async with serving(whereabouts, settings=TRUSTING) as server:
        for headers in ({"X_Forwarded_For": value}, {"Forwarded": f"for={value}"}):
            assert (await asked(server.port, upgrade(**headers))).split()[0] == PROXY
        request = upgrade(X_Forwarded_For=f"{value}, 10.0.0.3")
        assert (await asked(server.port, request)).split()[0] == "10.0.0.3"


async def test_only_the_header_that_is_named_counts() -> None:
    """A proxy that sets one passes on the other as the client has sent it."""
    settings = ws.Settings(trusted_proxies=(PROXY,), forwarded_headers=("Forwarded",))
    async with serving(whereabouts, settings=settings) as server:
        assert (await asked(server.port, upgrade(X_Forwarded_For=CLIENT))).startswith(PROXY)
        assert (await asked(server.port, upgrade(Forwarded=f"for={CLIENT}"))).startswith(CLIENT)


async def test_peers_on_a_unix_socket_can_be_trusted(tmp_path: Path) -> None:
    """They are if ``unix`` is among the proxies."""
    for proxies, expected in (("unix", f"{CLIENT} 0 http {CLIENT}"), (PROXY, " 0 http unix")):
        path = str(tmp_path / proxies)
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(path)
        sock.listen()
        settings = ws.Settings(trusted_proxies=(proxies,))
        async with (
            serving(whereabouts, listeners=[trio.SocketListener(sock)], settings=settings),
            await trio.open_unix_socket(path) as stream,
        ):
            await stream.send_all(upgrade(X_Forwarded_For=CLIENT))
            assert said(await answer(stream)) == expected


async def test_limits_count_the_client_and_not_the_proxy() -> None:
    """One client of the proxy may have so many connections, and so may the next; the proxy has no bound."""
    settings = ws.Settings(trusted_proxies=(PROXY,), max_connections_per_address=2)
    async with serving(wait, settings=settings) as server, trio.open_nursery() as nursery:
        answers = []
        for number in [1, 1, 1, 2, 2, 2]:
            stream = await open_from(server.port)
            nursery.start_soon(hold, stream)
            await stream.send_all(upgrade(X_Forwarded_For=f"203.0.113.{number}"))
            answers.append((await answer(stream, (b"\r\n\r\n",)))[9:12])
        assert answers == [b"101", b"101", b"503", b"101", b"101", b"503"]
        for _ in range(40):
            nursery.start_soon(hold, await open_from(server.port))
        async with await open_from(server.port) as stream:
            await stream.send_all(upgrade(X_Forwarded_For="203.0.113.3"))
            assert b" 101 " in await answer(stream, (b"\r\n\r\n",))
        nursery.cancel_scope.cancel()


async def wait(connection: ws.Connection) -> None:
    await connection.wait_closed()


async def hold(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


async def test_one_networks_addresses_are_one_client() -> None:
    """Of IPv6 limits count the /64: a client that has one address there has them all."""
    settings = ws.Settings(trusted_proxies=(PROXY,), max_connections_per_address=2)
    async with serving(wait, settings=settings) as server, trio.open_nursery() as nursery:
        answers = []
        for host in ["2001:db8::1", "2001:db8::2:2", "2001:db8::3", "2001:db8:0:1::1"]:
            stream = await open_from(server.port)
            nursery.start_soon(hold, stream)
            await stream.send_all(upgrade(X_Forwarded_For=host))
            answers.append((await answer(stream, (b"\r\n\r\n",)))[9:12])
        assert answers == [b"101", b"101", b"503", b"101"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("host", "remote", "group"),
    [
        ("192.0.2.1", "192.0.2.1:80", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1:80", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
        ("fe80::1%lo", "[fe80::1%lo]:80", "fe80::/64"),
    ],
)
def test_a_socket_address_is_text_and_a_group(host: str, remote: str, group: str) -> None:
    """IPv6 in brackets before a port, IPv4 in IPv6's form as what it is."""
    client = ip_client(host, 80)
    assert (client.remote, client.group) == (remote, group)


# -- the PROXY protocol -------------------------------------------------------------------------


@pytest.mark.parametrize("header", [VERSION_1, VERSION_2], ids=["1", "2"])
@pytest.mark.parametrize("cut", [1, 7, 500])
async def test_a_proxy_header_says_where_the_client_is(header: bytes, cut: int) -> None:
    """In both versions, in whatever pieces it comes."""
    data = header + upgrade()
    parts = [data[at : at + cut] for at in range(0, len(header), cut)] + [data[len(header) :]]
    if cut > len(header):
        parts = [data]
    elif len(header) % cut:
        parts[-2:] = [parts[-2][: len(header) % cut], parts[-1]]
    async with serving(whereabouts, settings=SPEAKING) as server:
        assert await asked(server.port, *parts) == f"{CLIENT} 4711 http {CLIENT}:4711"


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["LOCAL", "UNKNOWN"])
async def test_a_proxys_own_connection_is_answered(header: bytes) -> None:
    """Its health checks: the client is the proxy, and health is told."""
    async with serving(whereabouts, settings=SPEAKING) as server:
        assert (await asked(server.port, header + upgrade())).split()[0] == PROXY
        assert await asked(server.port, header + get("/healthz")) == "200"
        async with await open_from(server.port) as stream:
            await stream.send_all(header)
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().failed == 0


async def test_a_proxy_header_is_expected_of_proxies_alone() -> None:
    """A stranger's is no request; without one, strangers and probes are served as they are."""
    async with serving(whereabouts, settings=SPEAKING) as server:
        assert await asked(server.port, VERSION_1 + upgrade(), host=STRANGER) == "400"
        assert await asked(server.port, VERSION_2 + upgrade(), host=STRANGER) == "400"
        assert (await asked(server.port, upgrade(), host=STRANGER)).startswith(STRANGER)
        assert await asked(server.port, upgrade()) == ""
        assert server.statistics().refused["bad PROXY header"] == 1


async def test_without_named_proxies_every_peer_is_one() -> None:
    """The option alone is for a port that nothing but the proxy reaches."""
    async with serving(whereabouts, settings=ws.Settings(proxy_protocol=True)) as server:
        assert (await asked(server.port, VERSION_1 + upgrade(), host=STRANGER)).startswith(CLIENT)
        assert await asked(server.port, upgrade(), host=STRANGER) == ""


async def test_headers_count_behind_a_proxy_header_that_names_a_proxy() -> None:
    """One proxy in front of another: the first says where the second is, the second where the client is."""
    async with serving(whereabouts, settings=SPEAKING) as server:
        line = b"PROXY TCP4 %b 127.0.0.1 1 80\r\n"
        request = upgrade(X_Forwarded_For=CLIENT)
        assert (await asked(server.port, line % b"10.0.0.9" + request)).startswith(f"{CLIENT} 0")
        assert (await asked(server.port, line % b"198.51.100.9" + request)).startswith("198.51.100.9 1")


async def test_a_proxy_behind_the_proxy_is_not_counted() -> None:
    """Neither of the two is one client."""
    settings = ws.Settings(
        proxy_protocol=True, trusted_proxies=(PROXY, "10.0.0.0/8"), max_handshakes_per_second=2
    )
    async with serving(whereabouts, settings=settings) as server:
        line = b"PROXY TCP4 10.0.0.9 127.0.0.1 1 80\r\n"
        for number in range(10):
            request = upgrade(X_Forwarded_For=f"203.0.113.{number}")
            assert (await asked(server.port, line + request)).startswith("203.0.113.")


async def test_limits_count_the_address_in_the_proxy_header() -> None:
    """Half-open connections of one client through the proxy are bounded, and others come in."""
    settings = ws.Settings(proxy_protocol=True, max_connections_per_address=1, max_handshakes=100)
    async with serving(whereabouts, settings=settings) as server, trio.open_nursery() as nursery:
        for _ in range(40):
            stream = await open_from(server.port)
            await stream.send_all(VERSION_1)
            nursery.start_soon(hold, stream)
        while server.statistics().refused.get("too many handshakes", 0) < 24:
            await trio.lowlevel.checkpoint()
        other = b"PROXY TCP4 203.0.113.8 127.0.0.1 1 80\r\n"
        assert (await asked(server.port, other + upgrade())).startswith("203.0.113.8")
        assert server.statistics().refused["too many handshakes"] == 24
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("data", [b"", b"PROX", SIGNATURE, VERSION_2[:-1]], ids=["none", "1", "2", "TLVs"])
async def test_a_proxy_header_has_a_time(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The time of the opening handshake; what has not come by then is closed without a word."""
    caplog.set_level(logging.INFO)
    settings = ws.Settings(proxy_protocol=True, open_timeout=0.1)
    async with serving(whereabouts, settings=settings) as server, await open_from(server.port) as stream:
        await stream.send_all(data or b"P")
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b""
    assert not caplog.records


async def test_tls_follows_a_proxy_header() -> None:
    """Not a byte too many is read before it, even where both come in one piece."""
    authority = trustme.CA()
    context = presenting(authority, "localhost")
    mine = trusting(authority)
    async with serving(whereabouts, settings=SPEAKING, ssl_context=context) as server:
        for header in (VERSION_1, VERSION_2):
            plain = Prefixed(await open_from(server.port), header)
            stream = trio.SSLStream(plain, mine, server_hostname="localhost")
            await stream.send_all(upgrade())
            assert said(await answer(stream)) == f"{CLIENT} 4711 https {CLIENT}:4711"
            await trio.aclose_forcefully(stream)
        assert await asked(server.port, upgrade()) == ""


class Prefixed(trio.abc.Stream):
    """Sends something before the first bytes, in one piece with them."""

    def __init__(self, stream: trio.SocketStream, prefix: bytes) -> None:
        self._stream, self._prefix = stream, prefix

    async def send_all(self, data: bytes) -> None:
        prefix, self._prefix = self._prefix, b""
        await self._stream.send_all(prefix + bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_stream_of_another_kind_may_begin_with_a_proxy_header() -> None:
    """Where TLS has not begun before."""
    ours, theirs = trio.testing.memory_stream_pair()

    class Once(trio.abc.Listener[trio.abc.Stream]):
        streams = [theirs]  # noqa: RUF012

        async def accept(self) -> trio.abc.Stream:
            if self.streams:
                return self.streams.pop()
            return await trio.sleep_forever()  # type: ignore[no-any-return]

        async def aclose(self) -> None:
            pass

    settings = ws.Settings(proxy_protocol=True)
    async with serving(whereabouts, listeners=[Once()], settings=settings):
        await ours.send_all(VERSION_1 + upgrade())
        assert said(await answer(ours)) == f"{CLIENT} 4711 http {CLIENT}:4711"
        await ours.aclose()


@asynccontextmanager
async def dual_stack() -> AsyncIterator[trio.SocketListener]:
    """A listener on which IPv4 clients have addresses in IPv6's form."""
    sock = trio.socket.socket(trio.socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    await sock.bind(("::", 0))
    sock.listen()
    yield trio.SocketListener(sock)


async def test_ipv4_on_a_dual_stack_socket_is_ipv4() -> None:
    """For the proxies that are trusted, and in what is shown."""
    async with (
        dual_stack() as listener,
        serving(whereabouts, listeners=[listener], settings=TRUSTING) as server,
    ):
        assert (await asked(server.port, upgrade(), host=STRANGER)).startswith(STRANGER)
        assert (await asked(server.port, upgrade(X_Forwarded_For=CLIENT))).startswith(CLIENT)


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize("header", [VERSION_1, b"PROXY TCP4 nonsense\r\n"])
async def test_what_follows_the_header_of_a_client_that_is_dropped_is_not_read(header: bytes) -> None:
    """It is dropped for its rate or for the header; its request, in the same piece, reaches no hook."""
    asked_for: list[str] = []
    settings = ws.Settings(proxy_protocol=True, max_handshakes_per_second=0.01)

    async def handler(_connection: ws.Connection) -> None:
        pass

    async with serve_in_memory(
        handler, settings=settings, process_request=lambda request: asked_for.append(request.path)
    ) as memory:
        for begun in (VERSION_1 + upgrade("/first"), header + upgrade("/second")):
            stream = await memory.connect_raw()
            await stream.send_all(begun)
            await trio.testing.wait_all_tasks_blocked()
        assert asked_for == ["/first"]
        assert sum(memory.server.statistics().refused.values()) == 1
