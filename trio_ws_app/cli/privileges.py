"""Users and groups: a Unix socket's owner, and the server's once it has bound its sockets."""

from __future__ import annotations

import grp
import os
import pwd

from ..errors import UsageError

KEEP = -1  # for a user or a group that stays as it is
_NONE = 2**32 - 1  # the same, as the kernel has it: ids are less
Owner = tuple[int, int]


def parse_owner(option: str, text: str) -> Owner:
    """The ids of ``USER``, ``USER:GROUP`` or ``:GROUP``, by name or number. Raises UsageError."""
    user, _, group = text.partition(":")
    if not user and not group:
        raise UsageError(f"{option} is USER, USER:GROUP or :GROUP, not {text!r}")
    return _user(option, user)[0] if user else KEEP, _group(option, group) if group else KEEP


def identity(user: str | None, group: str | None) -> Owner | None:
    """The ids of ``--user`` and ``--group``; None if neither is given. Raises UsageError."""
    if user is None and group is None:
        return None
    uid, own_gid = (KEEP, KEEP) if user is None else _user("--user", user)
    if user is not None and group is None and own_gid == KEEP:
        raise UsageError(f"--user: {user} is in no group that is known here: give one with --group")
    return uid, own_gid if group is None else _group("--group", group)


def become(owner: Owner) -> None:
    """Be this user and group for good, with the other groups that the user is in. Raises UsageError."""
    uid, gid = owner
    try:
        if os.geteuid() == 0:
            os.setgroups(_groups_of(uid, gid))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError:
        raise UsageError("--user and --group are for a server that is started by root") from None
    except OSError as problem:  # what this container's ids are is decided outside of it
        raise UsageError(f"--user and --group: cannot be {uid}:{gid} here: {problem.strerror}") from None
    for library in (os.__file__, __file__):  # modules are imported at any time
        if not os.access(library, os.R_OK):
            raise UsageError(f"--user: it may not read {library}: install that where it may")


def _groups_of(uid: int, gid: int) -> list[int]:
    if uid == KEEP:
        return [gid]
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return [] if gid == KEEP else [gid]
    return os.getgrouplist(name, gid)


def _user(option: str, name: str) -> tuple[int, int]:
    """The user's id, and that of the group it belongs to first."""
    try:
        entry = pwd.getpwuid(_id(option, name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if name.isdecimal():
            return int(name), KEEP
        raise UsageError(f"{option}: there is no user {name!r}") from None
    return entry.pw_uid, entry.pw_gid


def _group(option: str, name: str) -> int:
    if name.isdecimal():
        return _id(option, name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"{option}: there is no group {name!r}") from None


def _id(option: str, digits: str) -> int:
    if len(digits) > len(str(_NONE)) or int(digits) >= _NONE:
        raise UsageError(f"{option}: ids are less than {_NONE}, not {digits}")
    return int(digits)
