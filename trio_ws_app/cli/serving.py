"""``trio-ws-app serve``: options in, a running server, one line on standard output when it listens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click
import trio
from click.core import ParameterSource

from ..errors import UsageError
from .configuration import Configuration, configure
from .errors import MISTAKE, exit_status
from .listeners import Listening, bind_tcp, bind_unix
from .log_output import LogWriter
from .log_output import configure as configure_logging
from .privileges import become, identity, parse_owner
from .process import keep_large_buffers, leave_process_1, spare_collector
from .reload import inherited_lifeline, restart_on_change
from .run import run
from .shutdown import Shutdown, Stopped
from .supervisor import MARGIN, run_workers
from .systemd import Notifier, activated_sockets
from .worker import inherited


def serve(
    *,
    reload: bool,
    host: Sequence[str],
    port: int,
    unix: str | None,
    unix_mode: int | None,
    unix_owner: str | None,
    reuse_port: bool,
    user: str | None,
    group: str | None,
    log_level: str,
    log_format: str,
    log_file: str | None,
    **values: Any,
) -> int:
    """Serve until a signal ends it. Returns the exit status."""
    leave_process_1()
    spare_collector()
    shutdown, worker, activated = Shutdown(), inherited(), activated_sockets()
    lifeline = inherited_lifeline() if worker is None else worker.lifeline
    shutdown.install(lifeline)
    _expect_one_place(click.get_current_context(), activated is not None)
    if reload:
        restart_on_change(shutdown)
        return 0
    me = identity(user, group) if worker is None else None
    if worker is not None:
        listening = Listening(worker.sockets, are_shared=True)
    elif activated is not None:
        listening = Listening(activated, are_shared=True)
    elif unix is not None:
        owner = None if unix.startswith("@") else me
        if unix_owner is not None:
            owner = parse_owner("--unix-owner", unix_owner)
        listening = bind_unix(unix, unix_mode, owner)
    else:
        listening = bind_tcp(host, port, reuse_port=reuse_port)
    status = MISTAKE
    with closing(listening):
        if me is not None:
            become(me)
        notifier, log = Notifier(), LogWriter(path=log_file)
        configure_logging(log_level, log_format, log, None if worker is None else worker.number)
        try:
            config = configure(worker, listening, **values)
            status = _run(config, shutdown, notifier, log, lifeline is not None)
        except Stopped:
            status = 0
        finally:
            shutdown.finish(status)
    return status


def _expect_one_place(context: click.Context, is_activated: bool) -> None:
    given = [
        f"--{name}"
        for name in ("host", "port", "unix")
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    unwanted = [*given, "--reload"] if context.params["reload"] else given
    if is_activated and unwanted:
        raise UsageError(f"{unwanted[-1]}: leave it out, since systemd has passed the sockets to listen on")
    if context.params["unix"] is not None and len(given) > 1:
        given.remove("--unix")
        raise UsageError(f"{given[-1]} and --unix exclude each other: give the one to listen on")
    for name in ("unix_mode", "unix_owner"):
        if context.params["unix"] is None and context.params[name] is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --unix as well")


def _run(
    config: Configuration, shutdown: Shutdown, notifier: Notifier, log: LogWriter, supervised: bool
) -> int:
    grace_period = config.settings.grace_period
    try:
        if config.workers > 1 and config.worker is None:
            shutdown.hold(grace_period, margin=2 * MARGIN, reloads=not supervised)
            trio.run(run_workers, config, shutdown, notifier)
        else:
            shutdown.hold(grace_period, reloads=config.certificates is not None and not supervised)
            keep_large_buffers()
            trio.run(run, config, shutdown, notifier, log)
    except BaseException as error:
        log.flush()
        return exit_status(error, config.target)
    return 0
