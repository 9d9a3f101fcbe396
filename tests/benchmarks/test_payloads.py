"""What is sent: the compressed messages, and when broadcasts are due."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from benchmarks.echo import check_compressed, compress, json_messages
from benchmarks.processes import RoundFailed
from benchmarks.servers.job import parse
from benchmarks.servers.publisher import IDENTITY, PROGRESS, WINDOW, Publisher


def fanout(path: Path, rate: float = 0) -> Publisher:
    """A publisher whose receivers report in ``path``."""
    path.write_bytes(PROGRESS.pack(0, 0))
    return Publisher(parse(["fanout", "--rate", str(rate), "--progress", str(path)]))


def test_the_json_messages_are_different_objects_of_one_size() -> None:
    """A repeated message would compress to almost nothing."""
    messages = json_messages()
    assert {len(message) for message in messages} == {1024}
    assert len(set(messages)) == len(messages)
    assert all(isinstance(json.loads(message), dict) for message in messages)


def test_compressed_replies_are_compared_with_what_was_sent() -> None:
    """With and without context takeover, what comes out must be the messages."""
    messages = json_messages(3)
    deflater = zlib.compressobj(wbits=-15)
    takeover = [(deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4] for message in messages]
    for replies in (takeover, [compress(message) for message in messages]):
        sample = " ".join(reply.hex() for reply in replies)
        check_compressed(sample, messages)
        with pytest.raises(RoundFailed, match="not what was sent"):
            check_compressed(sample, messages[::-1])


def test_the_publisher_waits_for_the_start(tmp_path: Path) -> None:
    """The clock begins when the receivers are connected."""
    publisher = fanout(tmp_path / "progress")
    assert not publisher.may_start()
    (tmp_path / "progress").write_bytes(PROGRESS.pack(0, 1))
    assert publisher.may_start()


def test_unpaced_broadcasts_stop_while_the_window_is_full(tmp_path: Path) -> None:
    """A broadcast is on its way until every receiver has it."""
    publisher = fanout(tmp_path / "progress")
    while publisher.due():
        publisher.message()
    assert publisher.published == WINDOW
    (tmp_path / "progress").write_bytes(PROGRESS.pack(1, 1))
    assert publisher.due()


def test_at_a_fixed_rate_bursts_are_due_whatever_the_receivers_do(tmp_path: Path) -> None:
    """The rate is the rate: the next burst is due one period later."""
    publisher = fanout(tmp_path / "progress", rate=0.5)
    publisher.may_start()
    assert publisher.delay() == 0
    assert publisher.due()
    assert 1.9 < publisher.delay() <= 2.0


def test_a_broadcast_says_which_one_it_is(tmp_path: Path) -> None:
    """Receivers see what is missing, and which one is the last."""
    publisher = fanout(tmp_path / "progress")
    first, last = publisher.message(), publisher.message(last=True)
    assert len(first) == len(last) == 125
    assert [IDENTITY.unpack_from(message)[::2] for message in (first, last)] == [(0, 0), (1, 1)]
