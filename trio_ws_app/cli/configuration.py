"""From the options of ``serve`` to its configuration, with every mistake found before it begins."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from contextlib import chdir, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs

from ..apps import BUILT_IN
from ..errors import UsageError
from ..pages import page_for, static_files
from ..server.options import ProcessRequest
from ..server.tls import Certificates, Files, expect_file, load_authority
from ..settings import Settings
from .broker import OpenBroker, broker_for, broker_name
from .listeners import Listening
from .observability import Observability, configure_observability, configure_tracing
from .options import settings_from
from .process import current_directory
from .target import Application, load
from .worker import Inherited

if TYPE_CHECKING:
    from ..observability.tracing import OpenTelemetry


@attrs.frozen(kw_only=True)
class Configuration:
    """What ``serve`` runs. ``pages`` answer browsers; ``worker`` is None outside of a worker process.

    ``has_successor`` says whether others accept on its sockets when it ends.
    """

    target: str
    application: Application
    broker: OpenBroker
    broker_name: str
    workers: int
    worker: Inherited | None
    worker_timeout: float | None
    has_successor: bool
    control: str | None
    listening: Listening
    settings: Settings
    certificates: Certificates | None
    pages: list[ProcessRequest]
    tracing: OpenTelemetry | None
    observability: Observability


def configure(
    worker: Inherited | None,
    listening: Listening,
    *,
    target: str,
    asgi: bool,
    tls_cert: Sequence[str],
    tls_key: Sequence[str],
    tls_client_ca: str | None,
    tls_minimum_version: str,
    page: bool,
    static: str | None,
    control: str | None,
    control_token: str | None,
    metrics: str | None,
    tracing: bool,
    broker: str | None,
    workers: int,
    worker_timeout: float | None,
    **limits: Any,
) -> Configuration:
    """The configuration that the options stand for, in a single process, a supervisor or a worker.

    Raises UsageError.
    """
    if worker_timeout is not None and not worker_timeout > 0:
        raise UsageError(f"--worker-timeout must be greater than zero, not {worker_timeout!r}")
    traced = configure_tracing() if tracing else None
    # Where a supervisor is, its workers begin, and look for the target: not where that leads.
    with chdir(current_directory()) if workers > 1 and worker is None else nullcontext():
        application = load(target, asgi=asgi)
    return Configuration(
        target=target,
        application=application,
        broker=broker_for(broker, workers, traced),
        broker_name=broker_name(broker),
        workers=workers,
        worker=worker,
        worker_timeout=worker_timeout,
        has_successor=listening.are_shared if worker is None else worker.has_successor,
        control=control,
        listening=listening,
        settings=settings_from(limits),
        certificates=certificates_for(tls_cert, tls_key, tls_client_ca, tls_minimum_version),
        tracing=traced,
        pages=_pages(target, page, static),
        observability=configure_observability(
            worker, control=control, control_token=control_token, metrics=metrics
        ),
    )


def _pages(target: str, page: bool, static: str | None) -> list[ProcessRequest]:
    if static is not None:
        with suppress(FileNotFoundError):  # of a relative path, if the current directory is gone
            if os.path.isdir(static):
                return [static_files(static)]
        raise UsageError(f"--static: there is no directory {static}")
    return [page_for(target)] if page and target in BUILT_IN else []


def certificates_for(
    chains: Sequence[str], keys: Sequence[str], client_ca: str | None, minimum_version: str
) -> Certificates | None:
    """What ``--tls-cert`` and ``--tls-key`` (PEM files) stand for, or None without them.

    ``minimum_version`` is as in "1.2".

    Raises UsageError for a file that is missing, is no PEM, is encrypted, or does not fit its other half.
    """
    if not chains and (keys or client_ca is not None):
        raise UsageError(f"{'--tls-key' if keys else '--tls-client-ca'} needs --tls-cert as well")
    if keys and len(keys) != len(chains):
        raise UsageError(f"give a --tls-key for each --tls-cert: there are {len(keys)} for {len(chains)}")
    if not chains:
        return None
    if client_ca is not None:
        _expect_readable("--tls-client-ca", [client_ca])
        try:
            load_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), client_ca)
        except ssl.SSLError as problem:
            raise UsageError(f"--tls-client-ca: {problem}") from None
    _expect_readable("--tls-cert", chains)
    _expect_readable("--tls-key", keys)
    files: list[Files] = list(zip(chains, keys, strict=True)) if keys else [(chain, None) for chain in chains]
    version = ssl.TLSVersion[f"TLSv{minimum_version.replace('.', '_')}"]
    try:
        return Certificates(*files, client_ca=client_ca, minimum_version=version)
    except ImportError:
        needs = "more than one --tls-cert needs cryptography: pip install 'trio-ws-app[tls]'"
        raise UsageError(needs) from None
    except (OSError, ValueError) as problem:
        raise UsageError(str(problem)) from None


def _expect_readable(option: str, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            expect_file(path)
        except OSError as problem:
            raise UsageError(f"{option}: cannot read {path}: {problem.strerror}") from None
