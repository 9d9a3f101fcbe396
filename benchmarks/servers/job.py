"""What a server script is asked to do, and how it says that it is ready."""

from __future__ import annotations

import argparse
import json
import ssl

import attrs

HOST = "127.0.0.1"
MAX_MESSAGE_SIZE = 32 * 1024 * 1024


@attrs.frozen
class Job:
    """``work`` is "echo", "fanout" or "idle"; ``certificate`` is a PEM file with its key, or None."""

    work: str
    compression: bool
    certificate: str | None
    uvloop: bool
    synchronous: bool

    def ssl_context(self) -> ssl.SSLContext | None:
        """The server's TLS context, or None."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate)
        return context


def parse() -> Job:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["echo", "fanout", "idle"])
    parser.add_argument("--compression", action="store_true")
    parser.add_argument("--certificate")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--synchronous", action="store_true")
    return Job(**vars(parser.parse_args()))


def announce(port: int, **facts: object) -> None:
    """Say that the server is ready."""
    print(json.dumps({"port": port, **facts}), flush=True)
