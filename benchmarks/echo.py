"""``python -m benchmarks echo``: messages that come back."""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import trustme

from . import benchmark, loadgen
from .columns import Column, Comparison
from .contenders import PEERS, Contender, taking_part
from .figures import Figures, Target
from .processes import RoundFailed, server

WARMUP_SECONDS = 0.3
JSON_MESSAGES = 64


@attrs.frozen
class Row(benchmark.Row):
    """``connections`` clients that keep ``inflight`` messages of ``size`` bytes each on their way.

    In mode "fairness" they send without pause, and latencies are those of one more client that has one
    message on its way.
    """

    inflight: int
    size: int
    tls: bool = False
    compression: bool = False
    mode: str = "echo"

    def takes(self, contender: Contender) -> bool:
        """Whether the contender can do this."""
        return (contender.tls or not self.tls) and (contender.compression or not self.compression)


ROWS = {
    row.name: row
    for row in (
        Row("64B-100x16", "64 B, 100 connections, 16 in flight", 100, 16, 64),
        Row("64B-100x1", "64 B, 100 connections, 1 in flight", 100, 1, 64),
        Row("64B-1x1", "64 B, 1 connection, 1 in flight", 1, 1, 64),
        Row("16KiB-50x4", "16 KiB, 50 connections, 4 in flight", 50, 4, 16 * 1024),
        Row("1MiB-20x1", "1 MiB, 20 connections, 1 in flight", 20, 1, 1024 * 1024),
        Row("deflate-100x16", "1 KiB of JSON, compressed, 100 connections, 16 in flight",
            100, 16, 1024, compression=True),
        Row("tls-100x16", "64 B over TLS, 100 connections, 16 in flight", 100, 16, 64, tls=True),
        Row("tls-100x1", "64 B over TLS, 100 connections, 1 in flight", 100, 1, 64, tls=True),
        Row("fairness", "latency beside 10 connections that send 64 B without pause", 10, 1, 64,
            mode="fairness"),
    )
}  # fmt: skip

TARGETS = (
    Target("64B-100x16", "rate", "ours-sync", 0.85, ["bun"]),
    Target("64B-100x1", "rate", "ours-sync", 0.9, ["bun"]),
    Target("16KiB-50x4", "rate", "ours-sync", 1.3, ["bun"]),
    Target("1MiB-20x1", "rate", "ours-sync", 1.1, ["bun"]),
    Target("64B-100x16", "rate", "ours", 3.0, ["picows"]),
    Target("64B-100x1", "rate", "ours", 0.55, ["bun"]),
    Target("64B-1x1", "rate", "ours", 0.9, PEERS),
    Target("64B-1x1", "rate", "ours-sync", 0.9, PEERS),
    Target("deflate-100x16", "rate", "ours", 1.2, ["websockets-asyncio", "websockets-uvloop"]),
    Target("tls-100x16", "rate", "ours", 1.0, ["websockets-asyncio"]),
    Target("tls-100x1", "rate", "ours", 1.0, ["websockets-asyncio"]),
    Target("fairness", "p99_us", "ours", 3.0, ["websockets-uvloop"], less_is_better=True),
)

COLUMNS = (
    Column("messages/s", "rate"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("CPU us", "cpu_us", "{:.2f}".format),
    Column("reply bytes", "reply_bytes"),
)
COMPARISON = Comparison("rate", ["limit", "bun", "picows"], {"fairness": "p99_us"})


def json_messages(count: int = JSON_MESSAGES, size: int = 1024) -> list[bytes]:
    """JSON objects of ``size`` bytes that differ, as an application's messages do; the same in every run."""
    source = random.Random(7)
    return [_json_message(source, number, size) for number in range(count)]


def _json_message(source: random.Random, number: int, size: int) -> bytes:
    words = ("price", "volume", "open", "close", "high", "low", "symbol", "exchange", "currency", "trades")
    items: list[dict[str, object]] = []
    while True:
        items.append({word: round(source.random() * 1000, 2) for word in source.sample(words, 3)})
        text = json.dumps({"type": "update", "sequence": number, "items": items})
        if len(text) > size:
            items.pop()
            text = json.dumps({"type": "update", "sequence": number, "items": items})
            return (text[:-1] + " " * (size - len(text)) + text[-1]).encode()


def compress(message: bytes) -> bytes:
    """One message's payload with permessage-deflate, without reference to earlier ones (RFC 7692, 7.2.1)."""
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def check_compressed(sample: str, messages: Sequence[bytes]) -> None:
    """Inflate the first replies of a connection and compare them with what was sent.

    Raises:
        RoundFailed: they differ.
    """
    inflater = zlib.decompressobj(-15)
    for reply, message in zip(sample.split(), messages, strict=False):
        if inflater.decompress(bytes.fromhex(reply) + b"\x00\x00\xff\xff") != message:
            raise RoundFailed("a compressed reply is not what was sent")


@attrs.frozen
class Files:
    """What servers and load generator need on disk."""

    certificate: Path
    payloads: Path


@contextmanager
def files(row: Row) -> Iterator[Files]:
    """Write the row's certificate with its key, and its compressed payloads, for the block."""
    with tempfile.TemporaryDirectory() as directory:
        found = Files(Path(directory) / "server.pem", Path(directory) / "payloads")
        if row.tls:
            certificate = trustme.CA().issue_cert("127.0.0.1")
            certificate.private_key_and_cert_chain_pem.write_to_path(str(found.certificate))
        if row.compression:
            payloads = [compress(message) for message in json_messages()]
            found.payloads.write_bytes(b"".join(len(one).to_bytes(4, "little") + one for one in payloads))
        yield found


def measure(row: Row, contender: Contender, seconds: float) -> Figures:
    """One round."""
    load: dict[str, object] = {
        "connections": row.connections,
        "inflight": row.inflight,
        "seconds": seconds,
        "warmup": WARMUP_SECONDS,
    }
    with files(row) as found:
        arguments = ["echo"]
        if row.tls:
            arguments += ["--certificate", str(found.certificate)]
            load["tls"] = 1
        if row.compression:
            arguments.append("--compression")
            load.update(payloads=found.payloads, deflate=1, text=1)
        else:
            load["size"] = row.size
        with server(contender, arguments) as process:
            figures, text = loadgen.run(row.mode, process, load)
    if row.compression:
        check_compressed(text["sample"], json_messages())
    return {**figures, "cpu_us": figures["cpu_seconds"] / figures["total_replies"] * 1e6}


command = benchmark.Benchmark(
    "echo",
    "Messages that come back: rates and latencies.",
    ROWS,
    taking_part("echo"),
    measure,
    COLUMNS,
    COMPARISON,
    TARGETS,
).command()
