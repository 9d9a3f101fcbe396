"""The benchmark of channels in short runs: every publication is counted, and what is missed comes back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks import channels
from benchmarks.fanout import progress_file
from benchmarks.processes import RoundFailed, launched
from benchmarks.servers.channel_clients import Progress
from benchmarks.servers.publisher import PROGRESS


@pytest.mark.parametrize("contender", [channels.CHANNELS, channels.BROADCAST], ids=lambda one: one.name)
def test_deliveries_are_counted(contender: channels.Contender) -> None:
    """Each of five clients gets each publication, on whichever of its three channels it comes."""
    figures = channels.measure(channels.Row("small", "", 5, 3, rate=50), contender, 0.2)
    assert figures["broadcasts"] >= 10
    assert figures["deliveries"] == 5 * figures["broadcasts"]
    assert figures["cpu_us"] > 0


def test_a_recovery_is_timed() -> None:
    """Ten clients come with the place of another one, and are told that they have recovered."""
    figures = channels.measure(channels.Row("small", "", 10, missed=20), channels.CHANNELS, 0)
    assert figures["recovered"] == 10
    assert figures["recovery_s"] > 0


def test_memory_is_that_of_subscriptions() -> None:
    """A server with thousands of subscriptions has grown by some KiB for each."""
    assert 0.5 < channels.grown(channels.Row("small", "", 5, 400), "channels") < 50


def test_clients_that_lose_their_server_fail_the_round() -> None:
    """The reason is told in one line."""
    row = channels.Row("small", "", 2)
    with (
        progress_file() as path,
        tempfile.TemporaryFile("w+") as errors,
        launched(channels.CHANNELS, ["channels", "--progress", str(path)], errors) as process,
        channels.clients(process.port, "channels", row, channels.FRAME, path) as generator,
    ):
        generator.next()
        generator.go_on()
        process.process.kill()
        with pytest.raises(RoundFailed, match="the server closed a connection"):
            generator.next()


def test_progress_is_what_all_have(tmp_path: Path) -> None:
    """A message counts once every client has it."""
    path = tmp_path / "progress"
    path.write_bytes(PROGRESS.pack(0, 0))
    progress = Progress(str(path), 2)
    progress.add(0, 3)
    assert PROGRESS.unpack(path.read_bytes())[0] == 0
    progress.add(0, 2)
    assert PROGRESS.unpack(path.read_bytes())[0] == 2
