"""Certificates of an authority that only the tests trust, as files and in contexts."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def write_pair(directory: Path, authority: trustme.CA, *names: str, file: str = "") -> tuple[str, str]:
    """A certificate for the names and its key, as files; written anew if they are there."""
    certificate = authority.issue_cert(*names)
    file = file or names[0].replace("*", "any")
    chain, key = directory / f"{file}.pem", directory / f"{file}-key.pem"
    for path, pem in ((key, certificate.private_key_pem), (chain, certificate.cert_chain_pems[0])):
        replacement = path.with_suffix(".new")
        pem.write_to_path(replacement)
        replacement.replace(path)
    return str(chain), str(key)


def write_authority(directory: Path, authority: trustme.CA) -> str:
    """The authority's own certificate, as a file."""
    path = directory / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def presenting(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate of the authority for the names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(*authorities: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's context that trusts them, perhaps with a certificate of its own."""
    context = ssl.create_default_context()
    for authority in authorities:
        authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context
