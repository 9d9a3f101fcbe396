"""The certificates and keys of the command line, with one line for what does not fit."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from ..errors import UsageError
from ..regular_files import open_regular
from ..server.certificates import Certificates, Files

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def certificates_for(
    chains: Sequence[str], keys: Sequence[str], client_ca: str | None, minimum_version: str
) -> Certificates | None:
    """What ``--tls-cert`` and ``--tls-key`` (PEM files) stand for, or None without them.

    Raises UsageError for a file that is missing, is no PEM, is encrypted, or does not fit its other half.
    """
    _expect_pairs(chains, keys, client_ca)
    if not chains:
        return None
    files: list[Files] = list(zip(chains, keys, strict=True)) if keys else [(chain, None) for chain in chains]
    _check_client_ca(client_ca)
    for chain, key in files:
        _check_pair(chain, key)
    try:
        return Certificates(*files, client_ca=client_ca, minimum_version=VERSIONS[minimum_version])
    except ImportError:
        raise UsageError(
            "more than one --tls-cert needs cryptography: pip install 'trio-ws-app[tls]'"
        ) from None
    except (OSError, ValueError) as problem:
        raise UsageError(f"--tls-cert: {problem}") from None


def _expect_pairs(chains: Sequence[str], keys: Sequence[str], client_ca: str | None) -> None:
    if not chains and (keys or client_ca):
        raise UsageError(f"{'--tls-key' if keys else '--tls-client-ca'} needs --tls-cert as well")
    if keys and len(keys) != len(chains):
        raise UsageError(f"give a --tls-key for each --tls-cert: there are {len(keys)} for {len(chains)}")


def _check_client_ca(path: str | None) -> None:
    _expect_readable("--tls-client-ca", path)
    try:
        if path is not None:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise UsageError(f"--tls-client-ca: {path} holds no certificate in PEM form") from None


def _check_pair(chain: str, key: str | None) -> None:
    for option, path in (("--tls-cert", chain), ("--tls-key", key)):
        _expect_readable(option, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password=_no_password)
    except ssl.SSLError as problem:
        raise UsageError(_explained(problem, chain, key)) from None


def _expect_readable(option: str, path: str | None) -> None:
    try:
        if path is not None:
            open_regular(path).close()
    except OSError as problem:
        raise UsageError(f"{option}: cannot read {path}: {problem.strerror}") from None


def _no_password() -> str:
    raise UsageError("--tls-key is encrypted: write it without a passphrase, for example with 'openssl pkey'")


def _explained(problem: ssl.SSLError, certificate: str, key: str | None) -> str:
    if problem.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key or certificate} does not belong to the certificate in {certificate}"
    if key is None:
        return (
            f"{certificate} does not hold a certificate and its key in PEM form: give the key with --tls-key"
        )
    return f"{certificate} and {key} are not a certificate chain and a key in PEM form"
