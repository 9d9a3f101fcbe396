"""The load generator against small servers, over real sockets: short runs that check what it checks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection, serve

from benchmarks import compiler, echo, fanout, handshake, http, idle, loadgen
from benchmarks.benchmark import Row
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.processes import RoundFailed

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")

SECONDS = 0.2
BY_NAME = {contender.name: contender for contender in CONTENDERS}
PEER = BY_NAME["websockets-asyncio"]


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives the same answer to every message; the value is its port."""

    def handler(websocket: ServerConnection) -> None:
        for _ in websocket:
            websocket.send(answer)

    with serve(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["text-64", "json-64"])
@pytest.mark.parametrize("contender", ["ours-asgi", "hypercorn-trio", "uvicorn"])
def test_http_counts_answers_and_time(name: str, contender: str) -> None:
    """Every server of the ASGI application gives whole answers."""
    for package in BY_NAME[contender].packages:
        pytest.importorskip(package)
    figures = http.measure(http.ROWS[name], BY_NAME[contender], SECONDS)
    assert figures["total"] > 0
    assert 0 <= figures["p50_us"] <= figures["p99_us"]
    assert figures["cpu_us"] > 0
    assert figures["answer_bytes"] > (1024 if "json" in name else 100)


def run_echo(port: int, **options: object) -> dict[str, object]:
    """One short echo run against ``port``."""
    with loadgen.load("echo", {"port": port, "seconds": 0.05, "warmup": 0, **options}) as generator:
        assert generator.next() == {"phase": "connected"}
        generator.go_on()
        return generator.next()


@pytest.mark.parametrize("name", ["64B-100x16", "16KiB-50x4", "deflate-100x16", "tls-100x1", "fairness"])
def test_echo_counts_replies_and_time(name: str) -> None:
    """Every kind of row works, and its figures hang together, however little the machine gets done."""
    row = echo.ROWS[name]
    figures = echo.measure(row, PEER, SECONDS)
    assert 0 <= figures["rate"] * figures["seconds"] <= figures["total_replies"] + 1
    assert figures["total_replies"] > 0
    assert 0 <= figures["p50_us"] <= figures["p99_us"]
    assert 0 < figures["load_share"] < 1.1
    assert figures["cpu_us"] > 0


@pytest.mark.parametrize("name", ["64B-1x1", "16KiB-50x4", "1MiB-20x1", "fairness"])
def test_the_limit_echoes(name: str) -> None:
    """Frames with every form of length come back whole from the server in C."""
    assert echo.measure(echo.ROWS[name], BY_NAME["limit"], SECONDS)["total_replies"] > 0


def bun() -> Contender:
    """The contender, if it is installed."""
    if reason := BY_NAME["bun"].missing():
        pytest.skip(reason)
    return BY_NAME["bun"]


@pytest.mark.parametrize("name", ["64B-100x16", "1MiB-20x1", "deflate-100x16", "tls-100x1"])
def test_bun_echoes(name: str) -> None:
    """Its script does what the others do."""
    assert echo.measure(echo.ROWS[name], bun(), SECONDS)["total_replies"] > 0


@pytest.mark.parametrize(("rate", "burst"), [(20, 10), (0, 1)])
def test_bun_broadcasts(rate: float, burst: int) -> None:
    """Its publisher does what publisher.py says: the load generator checks every number and time."""
    figures = fanout.measure(fanout.Row("few", "", 5, rate, burst), bun(), SECONDS)
    assert figures["deliveries"] == figures["broadcasts"] * 5 > 10


def test_bun_has_a_producer_for_each_connection() -> None:
    """They are asked for, as in every other server."""
    assert idle.measure(120, bun(), SECONDS)["producers"] == 120


def test_an_answer_with_other_contents_fails_the_round() -> None:
    """A server that does not do the work has no result."""
    with answering(b"x" * 64) as port, pytest.raises(RoundFailed, match="reply 1 is not what was sent"):
        run_echo(port)


def test_an_answer_of_another_size_fails_the_round() -> None:
    """The sizes of all replies are checked, not only the first ones' contents."""
    with answering(b"abc") as port, pytest.raises(RoundFailed, match="a reply has 3 bytes"):
        run_echo(port)


def test_a_server_that_does_not_compress_fails_a_compressed_row(tmp_path: Path) -> None:
    """Sending less work back is not the same work."""
    payloads = tmp_path / "payloads"
    payloads.write_bytes((3).to_bytes(4, "little") + b"\x4a\x04\x00")
    with answering(b"x") as port, pytest.raises(RoundFailed, match="the server does not compress"):
        run_echo(port, payloads=payloads, deflate=1)


def test_a_server_that_is_not_there_fails_the_round() -> None:
    """One line says why."""
    with pytest.raises(RoundFailed, match="cannot connect to the server: Connection refused"):
        run_echo(1)


@pytest.mark.parametrize(("rate", "burst"), [(50, 1), (20, 10), (0, 1)])
def test_every_receiver_gets_every_broadcast(rate: float, burst: int) -> None:
    """At a fixed rate, in bursts and unpaced, deliveries are broadcasts times receivers."""
    figures = fanout.measure(fanout.Row("few", "", 5, rate, burst), BY_NAME["bare-loop"], SECONDS)
    assert figures["broadcasts"] >= 2
    assert figures["deliveries"] == figures["broadcasts"] * 5
    assert figures["per_cpu_second"] * figures["cpu_us"] == pytest.approx(1e6)


def test_idle_connections_have_a_living_producer_each() -> None:
    """The server is asked for them, and its consumers answer."""
    figures = idle.measure(120, PEER, SECONDS)
    assert figures["producers"] == figures["connections"] == 120
    assert figures["kib"] > 0


@pytest.mark.parametrize("name", [PEER.name, "limit"])
def test_handshakes_are_counted(name: str) -> None:
    """Connections come and go, and each Close is answered."""
    figures = handshake.measure(Row("few", "", 4), BY_NAME[name], SECONDS)
    assert figures["total"] >= 4
    assert figures["unclosed"] == 0
