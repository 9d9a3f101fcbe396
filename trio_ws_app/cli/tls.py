"""The certificates and keys of the command line, with one line for what does not fit."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from ..errors import UsageError
from ..server.certificates import Certificates, Files, expect_file, load_authority


def certificates_for(
    chains: Sequence[str], keys: Sequence[str], client_ca: str | None, minimum_version: str
) -> Certificates | None:
    """What ``--tls-cert`` and ``--tls-key`` (PEM files) stand for, or None without them.

    ``minimum_version`` is as in "1.2".

    Raises UsageError for a file that is missing, is no PEM, is encrypted, or does not fit its other half.
    """
    _expect_pairs(chains, keys, client_ca)
    if not chains:
        return None
    files: list[Files] = list(zip(chains, keys, strict=True)) if keys else [(chain, None) for chain in chains]
    _check_client_ca(client_ca)
    for chain, key in files:
        _expect_readable("--tls-cert", chain)
        _expect_readable("--tls-key", key)
    version = ssl.TLSVersion[f"TLSv{minimum_version.replace('.', '_')}"]
    try:
        return Certificates(*files, client_ca=client_ca, minimum_version=version)
    except ImportError:
        raise UsageError(
            "more than one --tls-cert needs cryptography: pip install 'trio-ws-app[tls]'"
        ) from None
    except (OSError, ValueError) as problem:
        raise UsageError(str(problem)) from None


def _expect_pairs(chains: Sequence[str], keys: Sequence[str], client_ca: str | None) -> None:
    if not chains and (keys or client_ca):
        raise UsageError(f"{'--tls-key' if keys else '--tls-client-ca'} needs --tls-cert as well")
    if keys and len(keys) != len(chains):
        raise UsageError(f"give a --tls-key for each --tls-cert: there are {len(keys)} for {len(chains)}")


def _check_client_ca(path: str | None) -> None:
    _expect_readable("--tls-client-ca", path)
    try:
        if path is not None:
            load_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), path)
    except ssl.SSLError as problem:
        raise UsageError(f"--tls-client-ca: {problem}") from None


def _expect_readable(option: str, path: str | None) -> None:
    try:
        if path is not None:
            expect_file(path)
    except OSError as problem:
        raise UsageError(f"{option}: cannot read {path}: {problem.strerror}") from None
