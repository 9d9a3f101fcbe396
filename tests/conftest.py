"""What tests of several folders share: workers for whole runs, Redis servers and a Chromium."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest
from browser import Browser, chromium
from redis_servers import RedisServer, running_cluster, running_redis

from trio_ws_app.testing import plugin


def pytest_configure(config: pytest.Config) -> None:
    """Have the package's own plugin also if it is not installed; start processes as a person does.

    They find the package's bytecode, since some hundred of them are started, as the tests' own workers find
    what pytest has made of the tests; SIGINT ends them, also if the tests run behind a shell's ``&``.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.pluginmanager.is_registered(plugin):
        config.pluginmanager.register(plugin)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in several processes, and anything less in one, which starts sooner.

    There are two a core, since many tests wait for processes that they have started; ``-n 0`` and ``-n 2``
    mean what they say.
    """
    options = config.option
    is_worker = hasattr(config, "workerinput")  # which comes here too, and must not start others
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not is_worker
    if is_whole and options.numprocesses is None and not (options.usepdb or options.collectonly):
        options.numprocesses = 2 * (os.cpu_count() or 1)
        options.dist = "worksteal"


def pytest_collection_finish() -> None:
    """Spare the collector the tests themselves, which are half a million objects."""
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests without long texts: tokens differ in each worker, and all must find the same tests."""
    return argname if isinstance(val, str | bytes) and len(val) > 40 else None


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for tests that leave it alone."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis for one test, which may kill, pause and restart it."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[RedisServer]]:
    """A cluster of three nodes for tests that leave it alone."""
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
def own_cluster() -> Iterator[list[RedisServer]]:
    """A cluster of three nodes for one test, which may break it."""
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture
def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def one_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, running."""
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture
def browser(one_chromium: Browser) -> Iterator[Browser]:
    """The browser, without tabs that an earlier test left open."""
    yield one_chromium
    one_chromium.close_tabs()
