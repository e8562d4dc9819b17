"""What the server keeps and must be able to read again, sealed: AES-256-GCM under a ring of keys.

A sealed text says which key it was sealed with, so that keys can be replaced: what was sealed under an older key of
the ring is still read, and sealed again under the newest when somebody gets to it.
"""

import base64
import binascii
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

__all__ = ["KEY_BYTES", "KeyRing", "SealingError"]

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORM = "aesgcm1"
"""First part of a sealed text: what it is, should there ever be another form."""


class SealingError(Exception):
    """A key that is none, or a sealed text that cannot be read; the message names no secret."""


class KeyRing:
    """Seals with the newest of its keys, and unseals with any of them.

    Args:
        keys: Key id to base64 of 32 bytes, newest first.

    Raises:
        SealingError: If there is no key, an id is empty or has a colon in it, or a key is not base64 of 32 bytes.
    """

    def __init__(self, keys: Mapping[str, SecretStr]):
        if not keys:
            raise SealingError("at least one key is needed")
        for key_id in keys:
            if not key_id or ":" in key_id:
                raise SealingError(f"'{key_id}' is no id of a key: it may not be empty and has no colon")
        self._ciphers = {key_id: AESGCM(_bytes_of(key_id, key)) for key_id, key in keys.items()}
        self._newest = next(iter(self._ciphers))

    def seal(self, plaintext: bytes, *, bound_to: str) -> str:
        """Seals a secret, every time under a fresh nonce.

        Args:
            plaintext: The secret.
            bound_to: What it belongs to; it is only unsealed for the same.

        Returns:
            `aesgcm1:<key id>:<base64 of nonce and ciphertext>`.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, plaintext, _associated(self._newest, bound_to))
        return f"{_FORM}:{self._newest}:{base64.b64encode(nonce + sealed).decode()}"

    def unseal(self, sealed: str, *, bound_to: str) -> bytes:
        """The secret of a sealed text.

        Raises:
            SealingError: If its key is not in the ring, it was altered, or it was sealed for something else.
        """
        key_id, body = _parts(sealed)
        if key_id not in self._ciphers:
            known = ", ".join(self._ciphers)
            raise SealingError(f"it was sealed with key '{key_id}', which is not among the server's keys ({known})")
        try:
            return self._ciphers[key_id].decrypt(
                body[:_NONCE_BYTES], body[_NONCE_BYTES:], _associated(key_id, bound_to)
            )
        except InvalidTag:
            raise SealingError(
                f"it was altered, belongs to something else than {bound_to}, or the server has another key '{key_id}'"
            ) from None

    def is_newest(self, sealed: str) -> bool:
        """Whether a sealed text is under the newest key; another is to be sealed again.

        Raises:
            SealingError: If it is no sealed text.
        """
        return _parts(sealed)[0] == self._newest


def _bytes_of(key_id: str, key: SecretStr) -> bytes:
    try:
        found = base64.b64decode(key.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        raise SealingError(f"key '{key_id}' is not base64 of {KEY_BYTES} bytes")
    return found


def _associated(key_id: str, bound_to: str) -> bytes:
    return f"{_FORM}:{key_id}:{bound_to}".encode()


def _parts(sealed: str) -> tuple[str, bytes]:
    form, _, rest = sealed.partition(":")
    key_id, _, body = rest.partition(":")
    try:
        decoded = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    # A tag alone has 16 bytes: what is shorter than a nonce and a tag was never sealed.
    if form != _FORM or not key_id or len(decoded) < _NONCE_BYTES + 16:
        raise SealingError("it is no sealed text")
    return key_id, decoded
