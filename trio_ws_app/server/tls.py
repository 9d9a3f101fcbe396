"""TLS: a server's certificates, by the name that a client asks for, and what was agreed on in a handshake.

What is wrong with a file is said with its name. Files are read again when they are renewed.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from ..regular_files import open_regular
from ..request import TLS

logger = logging.getLogger("trio_ws_app.server")

_INTERVAL = 1.0  # seconds between two looks at the files

Files = tuple[str, str | None]  # a certificate's chain and its key, which the chain's file may hold itself
_Stamp = tuple[int, int, int] | None
Secured = ssl.SSLSocket | trio.SSLStream[trio.abc.Stream]  # of which the TLS handshake is done


class Certificates:
    """Certificates and keys in PEM files, the first for clients that ask for no other's name.

    ``context`` is for ``serve(ssl_context=...)``, and stays the same. A client gets the certificate that has
    the name it asks for (SNI, RFC 6066), ``*.example.com`` for one level of subdomains. With ``client_ca``, a
    PEM file, only clients with a certificate of this authority get in; requests have it as ``tls``.

    Nothing is read again by itself: run ``watch`` for that, or call ``reload``.

    Raises:
        OSError: a file can't be read, or is none.
        ssl.SSLError: one is no PEM, or a key does not belong to its certificate.
        ValueError: a key is encrypted, or there are no certificates.
        ImportError: there are several certificates and ``cryptography`` is not installed.
    """

    def __init__(
        self,
        *files: Files,
        client_ca: str | None = None,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> None:
        if not files:
            raise ValueError("Certificates needs a certificate: (chain, key)")
        self._files = files
        self._client_ca = client_ca
        self._minimum_version = minimum_version
        self._stamps = self._look()
        self._contexts = self._load()
        self.context = self._empty_context()
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """Read the files again; if that fails, keep what was read before and log one WARNING.

        Connections that there are go on as they are.
        """
        self._stamps = self._look()
        try:
            self._contexts = self._load()
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            logger.warning("the TLS certificates can't be read again, the old ones stay: %s", error)
            return False
        logger.info("the TLS certificates were read again")
        return True

    async def watch(self) -> None:
        """Read the files again whenever they have changed and been left alone for a second."""
        before = self._stamps
        while True:
            await trio.sleep(_INTERVAL)
            stamps = self._look()
            if stamps != self._stamps and stamps == before:
                self.reload()
            before = stamps

    # -- for each client ---------------------------------------------------------------------

    def _choose(self, secured: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: object) -> None:
        note_server_name(secured, name, context)
        wanted = (name or "").lower()
        _, _, domain = wanted.partition(".")
        contexts = self._contexts
        secured.context = contexts.get(wanted) or contexts.get(f"*.{domain}") or contexts[""]

    # -- reading -----------------------------------------------------------------------------

    def _load(self) -> dict[str, ssl.SSLContext]:
        """A context for each name, and the first one for none."""
        contexts: dict[str, ssl.SSLContext] = {}
        for chain, key in self._files:
            context = self._empty_context()
            load_pair(context, chain, key)
            for name in ["", *(dns_names(chain) if len(self._files) > 1 else ())]:
                contexts.setdefault(name, context)
        return contexts

    def _empty_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum_version
        context.set_alpn_protocols(["http/1.1"])
        if self._client_ca is not None:
            load_authority(context, self._client_ca)
        return context

    def _look(self) -> Sequence[_Stamp]:
        """What tells of a change of the files, also if their names are links that lead elsewhere now."""
        paths = [path for files in self._files for path in files] + [self._client_ca]
        return [_stamp(path) for path in paths if path is not None]


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


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


def note_server_name(secured: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: object) -> None:
    """A ``sni_callback``: nothing else tells a server afterwards which name the client has asked for."""
    secured.server_name = name  # type: ignore[union-attr]  # an attribute of our own


def agreed(secured: Secured) -> TLS:
    """What has come of the handshake."""
    certificate: Mapping[str, object] | None = secured.getpeercert() or None  # empty if it was not verified
    cipher = secured.cipher()
    return TLS(
        version=secured.version() or "",
        cipher=cipher[0] if cipher else "",
        alpn=secured.selected_alpn_protocol(),
        server_name=getattr(secured, "server_name", None),
        certificate=certificate,
        certificate_der=secured.getpeercert(True) if certificate else None,
    )
