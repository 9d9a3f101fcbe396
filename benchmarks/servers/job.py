"""What a server script is asked to do, and how it says that it is ready."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Sequence

import attrs

HOST = "127.0.0.1"
MAX_MESSAGE_SIZE = 32 * 1024 * 1024
COUNT_PRODUCERS = "producers"
TOPIC = "news"
WORKS = (
    "echo", "fanout", "http", "idle", "pubsub",
    "channels", "broadcast", "recovery", "tasks",
)  # fmt: skip


@attrs.frozen
class Job:
    """``work`` is one of ``WORKS``; ``certificate`` is a PEM file with its key.

    ``uvloop``, ``synchronous`` (consumers are plain functions) and ``pure`` (nothing of the package is
    compiled) are a contender's own. For pubsub, ``redis`` is the URL of the Redis that all of them follow
    ``TOPIC`` on. For fanout, and for the publisher of pubsub: ``rate`` bursts a second of ``burst`` messages
    of ``size`` bytes for ``seconds``; without a rate as fast as the receivers take them. ``progress`` is the
    file they report in. ``channels`` is how many channels each client of channels subscribes to.
    """

    work: str
    compression: bool
    certificate: str | None
    uvloop: bool
    synchronous: bool
    pure: bool
    rate: float
    burst: int
    size: int
    seconds: float
    progress: str
    redis: str
    channels: int

    def ssl_context(self) -> ssl.SSLContext | None:
        """The server's TLS context, or None."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate)
        return context


def parse(arguments: Sequence[str] | None = None) -> Job:
    """Read the command line, the program's own unless another is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--compression", action="store_true")
    parser.add_argument("--certificate")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--synchronous", action="store_true")
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--size", type=int, default=125)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--progress", default="")
    parser.add_argument("--redis", default="")
    parser.add_argument("--channels", type=int, default=1)
    return Job(**vars(parser.parse_args(arguments)))


def announce(port: int) -> None:
    """Say that the server is ready, as ``trio-ws-app serve`` does."""
    print(f"listening on ws://{HOST}:{port}", flush=True)


class Producers:
    """How many producers are alive: each is a block of ``with producers``."""

    def __init__(self) -> None:
        self.alive = 0

    def __enter__(self) -> None:
        self.alive += 1

    def __exit__(self, *_details: object) -> None:
        self.alive -= 1

    def answer(self, message: str | bytes) -> str | bytes:
        """What an idle connection's consumer answers: the message, or the number when asked for it."""
        return str(self.alive) if message == COUNT_PRODUCERS else message
