"""What signatures are checked with: a key has one algorithm, and a token can not choose another."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from ..errors import UsageError
from ..regular_files import open_regular

if TYPE_CHECKING:
    import jwt

logger = logging.getLogger("trio_ws_app.auth")

MIN_SECRET: Final = 16  # bytes
_RECOMMENDED: Final = 32  # bytes: the size of HS256's hash (RFC 7518, section 3.2)
_MAX_FILE: Final = 1024 * 1024
_ALGORITHMS: Final = {"oct": "HS256", "RSA": "RS256", "OKP": "EdDSA"}  # by the type of a JWK (RFC 7517)


def pyjwt() -> jwt.PyJWT:
    """A PyJWT of our own, which is imported when it is first needed. Raises UsageError if it is missing."""
    try:
        import jwt
    except ModuleNotFoundError:
        raise UsageError("tokens need the extra: pip install 'trio-ws-app[auth]'") from None
    return jwt.PyJWT()


@attrs.frozen
class Key:
    """A key and the one algorithm that it is for; ``value`` is as PyJWT takes it."""

    algorithm: str
    value: str | bytes | jwt.PyJWK = attrs.field(repr=False)


class Keys(Protocol):
    """The keys that tokens may be signed with."""

    def find(self, kid: str | None) -> Key | None:
        """The key that a token's header names, None if it is not known. It does not wait."""


@attrs.frozen
class _OneKey:
    """One key for all tokens, whatever key they name."""

    _key: Key

    def find(self, _kid: str | None) -> Key:
        return self._key


def secret(text: str | bytes) -> Keys:
    """A secret that is shared with the signers (HS256). Raises ValueError below ``MIN_SECRET`` bytes."""
    return _OneKey(Key("HS256", hmac_key(text)))


def hmac_key(text: str | bytes) -> bytes:
    """The secret as PyJWT takes it without a warning: zeros at its end make no difference (RFC 2104)."""
    key = text.encode() if isinstance(text, str) else text
    if len(key) < MIN_SECRET:
        raise ValueError(f"a secret for HS256 has at least {MIN_SECRET} bytes, this one {len(key)}")
    return key.ljust(_RECOMMENDED, b"\0")


def public_key(pem: str | bytes) -> Keys:
    """The public key, in PEM, of the signers: RSA (RS256) or Ed25519 (EdDSA).

    Raises:
        ValueError: it is no such key.
        UsageError: PyJWT's extra ``crypto`` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise UsageError("public keys need the extra: pip install 'trio-ws-app[auth]'") from None
    data = pem.encode() if isinstance(pem, str) else pem
    try:
        key = load_pem_public_key(data)
    except UnsupportedAlgorithm as problem:
        raise ValueError(str(problem)) from None
    if isinstance(key, RSAPublicKey):
        return _OneKey(Key("RS256", data))
    if isinstance(key, Ed25519PublicKey):
        return _OneKey(Key("EdDSA", data))
    raise ValueError(f"tokens are signed with RSA or Ed25519, this is a {type(key).__name__}")


class JwksFile:
    """The keys of a file with a JSON Web Key Set (RFC 7517): ``{"keys": [{"kty": ..., "kid": ...}, ...]}``.

    The file is looked at for each token and read again when it has changed, so keys can be exchanged
    without a restart. One that cannot be read then, or is no key set, is logged and changes nothing. A
    token that names no key is for a file of one.

    Raises UsageError if the file can't be read now.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        pyjwt()
        self._path = Path(path)
        self._problem: str | None = None  # why it was not read the last time
        try:
            self._stamp = self._stamp_now()
            self._keys = _read(self._path)
        except (OSError, ValueError) as problem:
            raise UsageError(f"the key set {self._path} cannot be read: {_said(problem)}") from None

    def find(self, kid: str | None) -> Key | None:
        """The key of this id, or the only one for a token that names none."""
        self._reread()
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    def _reread(self) -> None:
        problem = None
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._keys = _read(self._path)
                self._stamp = stamp
                logger.info("the key set %s was read again: it has %d keys", self._path, len(self._keys))
        except OSError as error:  # it may pass, as too many open files do, and the file be the same
            problem = _said(error)
        except ValueError as error:
            problem, self._stamp = _said(error), stamp
        if problem is not None and problem != self._problem:
            logger.warning("the key set %s is kept as it was: %s", self._path, problem)
        self._problem = problem

    def _stamp_now(self) -> object:
        found = self._path.stat()
        return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[str | None, Key]:
    with open_regular(path) as file:
        data = file.read(_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ValueError(f"it is larger than {_MAX_FILE} bytes")
    try:
        entries = json.loads(data)["keys"]
        found = [_parsed(entry) for entry in entries]
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is no JSON Web Key Set") from None
    keys = {kid: key for kid, key in found if key is not None}
    if not keys:
        raise ValueError("it has no key for RS256, EdDSA or HS256")
    return keys


def _parsed(entry: Mapping[str, object]) -> tuple[str | None, Key | None]:
    """A key and its id; None for one that is for something else."""
    import jwt

    algorithm = _ALGORITHMS.get(str(entry.get("kty")))
    kid = entry.get("kid")
    if algorithm is None or entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None, None
    public = {name: value for name, value in entry.items() if name != "d"}  # of a key that is a signer's own
    try:
        key = jwt.PyJWK.from_dict(public, algorithm=algorithm)
        value = hmac_key(key.key) if algorithm == "HS256" else key
    except (jwt.PyJWTError, ValueError) as problem:
        raise ValueError(f"its key {kid!r} is none for {algorithm}: {problem}") from None
    return None if kid is None else str(kid), Key(algorithm, value)


def _said(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
