"""The certificate and its key, with a clear word when they do not fit."""

from __future__ import annotations

import ssl

from ..errors import UsageError


def server_context(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """A TLS context from ``--tls-cert`` and ``--tls-key`` (PEM files), or None without them.

    Raises UsageError for a file that is missing, is no PEM, is encrypted, or does not fit the other one.
    """
    if certificate is None:
        if key is not None:
            raise UsageError("--tls-key needs --tls-cert as well")
        return None
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        _expect_readable(option, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as problem:
        raise UsageError(_explained(problem, certificate, key)) from None
    return context


def _expect_readable(option: str, path: str | None) -> None:
    try:
        if path is not None:
            with open(path, "rb"):
                pass
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
