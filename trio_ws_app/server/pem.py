"""Certificates, keys and authorities in PEM files; what is wrong with one is said with its name."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from ..regular_files import open_regular


def load_pair(context: ssl.SSLContext, chain: str, key: str | None) -> None:
    """Have the context use a certificate's chain and its key, which the chain's file may hold itself.

    Raises:
        OSError: a file can't be read, or is none.
        ssl.SSLError: one is no PEM, or the key does not belong to the certificate.
        ValueError: the key is encrypted.
    """
    expect_file(chain)
    if key is not None:
        expect_file(key)

    def no_password() -> str:
        how = "write it without a passphrase, for example with 'openssl pkey'"
        raise ValueError(f"the key in {key or chain} is encrypted: {how}")

    try:
        context.load_cert_chain(chain, key, password=no_password)
    except ssl.SSLError as problem:
        raise ssl.SSLError(problem.errno, _explained(problem, chain, key)) from None


def load_authority(context: ssl.SSLContext, path: str) -> None:
    """Have the context demand certificates of this authority. Raises OSError or ssl.SSLError."""
    expect_file(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as problem:
        raise ssl.SSLError(problem.errno, f"{path} holds no certificate in PEM form") from None
    context.verify_mode = ssl.CERT_REQUIRED


def dns_names(chain: str) -> Sequence[str]:
    """The DNS names of a chain's first certificate (RFC 9525, section 2)."""
    from cryptography import x509  # needed for several certificates alone

    certificate = x509.load_pem_x509_certificates(Path(chain).read_bytes())[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def expect_file(path: str) -> None:
    """Raise OSError for what can't be read, and for a pipe, since reading that might never end."""
    open_regular(path).close()


def _explained(problem: ssl.SSLError, chain: str, key: str | None) -> str:
    if problem.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key or chain} does not belong to the certificate in {chain}"
    if key is None:
        return f"{chain} does not hold a certificate and its key in PEM form: give --tls-key as well"
    return f"{chain} and {key} are not a certificate chain and a key in PEM form"
