"""The examples of ``tests/deploy/`` work, or at least pass the checks of the programs that they are for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from running import PATIENCE, serving
from websockets.sync.client import connect

from trio_ws_app.cli import main

DEPLOY = Path(__file__).parent / "deploy"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
IN_CI = "CI" in os.environ


def check_arguments(command: str) -> None:
    """Raise unless the words after ``trio-ws-app`` are valid options."""
    arguments = shlex.split(command.partition("trio-ws-app ")[2])
    main.commands[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.fixture
def nginx(tmp_path: Path, free_port: int) -> Iterator[int]:
    """The example's proxy on a port of loopback, in front of a socket in ``tmp_path``."""
    assert NGINX is not None
    example = (DEPLOY / "nginx.conf").read_text()
    example = example.replace("listen 80;", f"listen 127.0.0.1:{free_port};")
    example = example.replace("/run/trio-ws-app/app.sock", f"{tmp_path}/app.sock")
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {tmp_path}/nginx.pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{example}\n}}\n"
    )
    subprocess.run([NGINX, "-t", "-q", "-c", str(config), "-p", str(tmp_path)], check=True, timeout=PATIENCE)
    process = subprocess.Popen([NGINX, "-c", str(config), "-p", str(tmp_path)])
    try:
        yield free_port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def eventually(url: str) -> str:
    """What the address answers, as soon as the port is open."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(url, timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.02)


@pytest.mark.skipif(NGINX is None and not IN_CI, reason="needs nginx: apt-get install nginx-light")
def test_nginx_passes_pages_and_websockets_on(tmp_path: Path, nginx: int) -> None:
    """Through the proxy: the page, a WebSocket from that page's origin, health; not the metrics."""
    arguments = ["echo", "--unix", str(tmp_path / "app.sock"), "--metrics", "on"]
    with serving(*arguments):
        assert "<title>Echo</title>" in eventually(f"http://127.0.0.1:{nginx}/")
        assert eventually(f"http://127.0.0.1:{nginx}/readyz") == "ready\n"
        origin = f"http://127.0.0.1:{nginx}"
        with connect(f"ws://127.0.0.1:{nginx}/", origin=origin) as client:
            client.send("through the proxy")
            assert client.recv(timeout=PATIENCE) == "through the proxy"
        with pytest.raises(OSError, match="404"):
            urlopen(f"http://127.0.0.1:{nginx}/metrics", timeout=PATIENCE)


def test_the_systemd_unit_starts_a_valid_command() -> None:
    """The unit's command line is understood, and it gives the grace period time."""
    unit = (DEPLOY / "trio-ws-app.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, flags=re.MULTILINE))
    check_arguments(settings["ExecStart"])
    grace = re.search(r"TRIO_WS_APP_GRACE_PERIOD=(\d+)", unit)
    assert grace is not None
    assert int(settings["TimeoutStopSec"]) > int(grace[1]) + 1


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_systemd_unit_is_understood(tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say about it."""
    unit = (DEPLOY / "trio-ws-app.service").read_text()
    copy = tmp_path / "trio-ws-app.service"
    copy.write_text(unit.replace("/opt/trio-ws-app/.venv/bin/trio-ws-app", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert "trio-ws-app.service" not in done.stderr
    assert done.returncode == 0


def test_the_container_starts_a_valid_command() -> None:
    """Entry point and command make a valid command line; variables and port fit the options."""
    text = (DEPLOY / "Containerfile").read_text()
    words = [
        word
        for name in ("ENTRYPOINT", "CMD")
        for word in re.findall(rf"^{name} (\[.*\])$", text, re.MULTILINE)
    ]
    entry, command = (re.findall(r'"([^"]*)"', word) for word in words)
    check_arguments(shlex.join([*entry, *command]))
    names = {parameter.envvar for parameter in main.commands["serve"].params}
    assert set(re.findall(r"(TRIO_WS_APP_\w+)=", text)) <= names
    port = next(option for option in main.commands["serve"].params if option.name == "port")
    assert f"EXPOSE {port.default}\n" in text
