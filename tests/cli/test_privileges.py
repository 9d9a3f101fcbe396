"""A server that root starts, and that is another user's before it imports anything."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest
from running import PATIENCE, ROOT, run, serving
from websockets.sync.client import connect, unix_connect

from trio_ws_app.cli.privileges import become
from trio_ws_app.errors import UsageError

WHO = """
import os

at_import = os.getresuid(), os.getresgid(), sorted(os.getgroups())

async def handler(connection):
    await connection.send(str(at_import))
    await connection.send(str((os.getresuid(), os.getresgid(), sorted(os.getgroups()))))
    await connection.send(str(os.access("/etc/shadow", os.R_OK)))
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
NOBODY = 65534


def open_to_all(path: Path) -> bool:
    """Whether every user gets there."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


others_can_read = pytest.mark.skipif(
    not open_to_all(ROOT) or not open_to_all(Path(os.__file__).parent),
    reason="another user can't read this checkout, or not Python's library",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder that every user can read, up to the root."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "who.py").write_text(WHO)
    return tmp_path


@needs_root
@others_can_read
@pytest.mark.parametrize("options", [[], ["--workers", "2", "--broker", "none"]], ids=["alone", "workers"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--user", "nobody"], (NOBODY, NOBODY, [NOBODY])),
        (["--user", "4711", "--group", "4712"], (4711, 4712, [4712])),
        (["--group", "4712"], (0, 4712, [4712])),
    ],
)
def test_the_target_is_imported_by_the_user(
    directory: Path, arguments: list[str], expected: tuple[int, int, list[int]], options: list[str]
) -> None:
    """Real, effective and saved ids have changed by then, and no group of root's is left."""
    if options and not open_to_all(Path(sys.executable).resolve()):
        pytest.skip("another user can't run this interpreter, as its workers have to")
    user, group, groups = expected
    with (
        serving("who:handler", *arguments, *options, cwd=directory) as server,
        connect(server.url) as client,
    ):
        for _ in range(2):
            assert client.recv(timeout=PATIENCE) == str(((user,) * 3, (group,) * 3, groups))
        assert client.recv(timeout=PATIENCE) == str(user == 0)


@needs_root
@others_can_read
def test_a_unix_socket_is_the_users(directory: Path) -> None:
    """Also in a folder that is not."""
    path = directory / "app.sock"
    with serving("who:handler", "--user", "nobody", "--unix", str(path), "--unix-mode", "600", cwd=directory):
        assert path.stat().st_uid == NOBODY
        with unix_connect(str(path)) as client:
            assert str(NOBODY) in str(client.recv(timeout=PATIENCE))


@needs_root
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", "no-such-user"], "--user: there is no user 'no-such-user'"),
        (["--user", "4711"], "--user: 4711 is in no group that is known here: give one with --group"),
        (["--group", "no-such-group"], "--group: there is no group 'no-such-group'"),
        (["--user", "99999999999"], "--user: ids are less than 4294967295, not 99999999999"),
        (["--user", "4294967295", "--group", "1"], "--user: ids are less than"),
        (["--group", "9" * 5000], "--group: ids are less than"),
        pytest.param(
            ["--user", "nobody", "--log-file", "/root/log"],
            "--log-file: cannot open /root/log: Permission",
            marks=others_can_read,
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str) -> None:
    """What the user can't do is said at the start."""
    ended = run("serve", "echo", "--port", "0", *arguments)
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert ended.errors.startswith(f"trio-ws-app: {words}")


def test_ids_that_a_container_lacks_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it maps to none of the machine's cannot be had."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(UsageError, match="--user and --group: cannot be 4711:4712 here: Invalid argument"):
        become((4711, 4712))


@needs_root
def test_a_user_who_cannot_read_the_package_is_told(tmp_path: Path) -> None:
    """It is imported piece by piece, at any time: a server without the rest would fail later."""
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / "trio_ws_app").symlink_to(ROOT / "trio_ws_app")
    arguments = ("serve", "echo", "--port", "0", "--user", "nobody")
    ended = run(*arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path / "private"))
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert ended.errors.startswith("trio-ws-app: --user: it may not read ")
