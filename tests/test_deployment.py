"""The examples of ``tests/deploy/`` work, or at least pass the checks of the programs that they are for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kubernetes_validate
import pytest
import trustme
import yaml
from certificates import trusting
from running import PATIENCE, serving
from tls_client import TlsClient, secured
from websockets.exceptions import InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from trio_ws_app.cli import main

DEPLOY = Path(__file__).parent / "deploy"
IN_CI = "CI" in os.environ
WHERE = """
import trio_ws_app as ws

async def handler(connection):
    request = connection.request
    await connection.send(f"{request.client} {request.scheme} {connection.remote}")
"""


def program(name: str) -> str | None:
    """Its path, if it is installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def needs(name: str, package: str) -> pytest.MarkDecorator:
    """Skip a test without this program, with a word on how to get it; in CI it is there."""
    missing = program(name) is None and not IN_CI
    return pytest.mark.skipif(missing, reason=f"needs {name}: apt-get install {package}")


NGINX = program("nginx")


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


@pytest.fixture
def whereabouts(tmp_path: Path) -> Path:
    """A folder with a module that says where its client is."""
    (tmp_path / "whereabouts.py").write_text(WHERE)
    return tmp_path


@contextmanager
def running(*command: str) -> Iterator[None]:
    """A program, until the block ends."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def opened(url: str, **options: Any) -> AbstractContextManager[ClientConnection | TlsClient]:
    """A client with an address of its own."""
    if "ssl" in options:
        return secured(url, local_addr=("127.0.0.77", 0), **options)
    return connect(url, source_address=("127.0.0.77", 0), **options)


def told(url: str, **options: Any) -> str:
    """What the server says of where this client is, as soon as it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with opened(url, **options) as client:
                return str(client.recv(timeout=PATIENCE))
        except (OSError, InvalidHandshake):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.02)


SPOOFED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}


@needs("nginx", "nginx-light")
def test_nginx_tells_where_the_client_is(whereabouts: Path, nginx: int) -> None:
    """What the client says of that itself does not count."""
    options = ["--unix", str(whereabouts / "app.sock"), "--trusted-proxies", "unix"]
    with serving("whereabouts:handler", *options, cwd=whereabouts):
        url = f"ws://127.0.0.1:{nginx}"
        assert told(url) == told(url, additional_headers=SPOOFED) == "('127.0.0.77', 0) http 127.0.0.77"


@needs("haproxy", "haproxy")
def test_haproxy_tells_where_the_client_is(whereabouts: Path, free_port: int, authority: trustme.CA) -> None:
    """By a header, and by the PROXY protocol before TLS; its health checks are understood."""
    haproxy = program("haproxy")
    assert haproxy is not None
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(whereabouts / "all.pem")
    trust = trusting(authority)
    app, proxies = "whereabouts:handler", ["--trusted-proxies", "127.0.0.1"]
    secure = ["--proxy-protocol", "--tls-cert", str(whereabouts / "all.pem")]
    raw_port = two_ports()[1]
    with (
        serving(app, *proxies, cwd=whereabouts) as plain,
        serving(app, *proxies, *secure, cwd=whereabouts) as tls,
    ):
        config = (DEPLOY / "haproxy.cfg").read_text()
        for old, new in {
            "maxconn 20000": "maxconn 100",  # within this machine's limit of descriptors
            "bind :80\n": f"bind 127.0.0.1:{free_port}\n",
            "bind :8443\n": f"bind 127.0.0.1:{raw_port}\n",
            "127.0.0.1:8765": f"127.0.0.1:{plain.port}",
            "127.0.0.1:8766": f"127.0.0.1:{tls.port}",
        }.items():
            assert old in config
            config = config.replace(old, new)
        path = whereabouts / "haproxy.cfg"
        path.write_text(config)
        subprocess.run([haproxy, "-c", "-q", "-f", str(path)], check=True, timeout=PATIENCE)
        with running(haproxy, "-db", "-q", "-f", str(path)):
            url = f"ws://127.0.0.1:{free_port}"
            assert told(url) == told(url, additional_headers=SPOOFED) == "('127.0.0.77', 0) http 127.0.0.77"
            text = told(f"wss://localhost:{raw_port}", ssl=trust)
            assert re.fullmatch(r"\('127\.0\.0\.77', [1-9]\d*\) https 127\.0\.0\.77:\d+", text)
        assert "Traceback" not in tls.stop().errors


@needs("caddy", "caddy")
def test_caddy_tells_where_the_client_is(whereabouts: Path, free_port: int) -> None:
    """The example is valid as it is, and passes WebSockets on."""
    caddy = program("caddy")
    assert caddy is not None
    folders = {name: str(whereabouts) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "Caddyfile")],
        check=True, capture_output=True, env=os.environ | folders, timeout=PATIENCE,
    )  # fmt: skip
    example = (DEPLOY / "Caddyfile").read_text().replace("ws.example.com", f"http://127.0.0.1:{free_port}")
    path = whereabouts / "Caddyfile"
    path.write_text("{\n admin off\n}\n" + example.replace("/run/trio-ws-app", str(whereabouts)))
    options = ["--unix", str(whereabouts / "app.sock"), "--trusted-proxies", "unix"]
    command = ["env", *(f"{name}={value}" for name, value in folders.items()), caddy, "run"]
    with (
        serving("whereabouts:handler", *options, cwd=whereabouts),
        running(*command, "--adapter", "caddyfile", "--config", str(path)),
    ):
        url = f"ws://127.0.0.1:{free_port}"
        assert told(url) == told(url, additional_headers=SPOOFED) == "('127.0.0.77', 0) http 127.0.0.77"
        with pytest.raises(OSError, match="404"):
            urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=PATIENCE)


def two_ports() -> list[int]:
    """Free ones."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in (one, other)]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority."""
    return trustme.CA()


@needs("nginx", "nginx-light")
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


@needs("systemd-analyze", "systemd")
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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_systemd_socket_is_understood(tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say about it, beside the service of its name."""
    for name in ("trio-ws-app.socket", "trio-ws-app.service"):
        unit = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(unit.replace("/opt/trio-ws-app/.venv/bin/trio-ws-app", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "trio-ws-app.socket")],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "trio-ws-app.socket" not in done.stderr
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


def test_the_kubernetes_manifest_is_valid() -> None:
    """By the schemas of Kubernetes; its command is valid, and it gives the grace period time."""
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    pod = documents[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    check_arguments(shlex.join(["trio-ws-app", "serve", *container["args"]]))
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert set(variables) <= {parameter.envvar for parameter in main.commands["serve"].params}
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = pause + float(variables["TRIO_WS_APP_GRACE_PERIOD"]) + 1
    assert pod["terminationGracePeriodSeconds"] > needed
    port = next(option for option in main.commands["serve"].params if option.name == "port")
    assert container["ports"][0]["containerPort"] == port.default
