"""A connection under a data key of its own: the server seals it and cannot open it by mistake, an executor opens it.

The data key is what the server's ring of keys seals. So a key of the ring is replaced without a look at any connection,
and whoever has one data key has one connection.
"""

import json
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["EnvelopeError", "new_data_key", "open_envelope", "seal_envelope"]

_KEY_BYTES = 32
_NONCE_BYTES = 12


class EnvelopeError(Exception):
    """A sealed connection that does not open; the message says nothing of what is in it."""


def new_data_key() -> bytes:
    """A key for one connection: 32 random bytes."""
    return secrets.token_bytes(_KEY_BYTES)


def seal_envelope(connection: dict[str, Any], data_key: bytes, *, project: str, gateway: str) -> bytes:
    """Seals a connection with AES-256-GCM: a fresh nonce, then what is encrypted.

    Args:
        connection: The options of SQLMesh's connection.
        data_key: The key, 32 bytes.
        project: The project that it is of, `<org>.<project>`: it opens for no other.
        gateway: The gateway that it is of, likewise.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(data_key).encrypt(nonce, json.dumps(connection).encode(), _bound_to(project, gateway))


def open_envelope(sealed: bytes, data_key: bytes, *, project: str, gateway: str) -> dict[str, Any]:
    """The connection that was sealed for a gateway of a project.

    Raises:
        EnvelopeError: If it was altered, or sealed with another key or for another gateway or project.
    """
    try:
        plain = AESGCM(data_key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(project, gateway))
    except (InvalidTag, ValueError):
        raise EnvelopeError(f"The connection of gateway '{gateway}' does not open: add it again.") from None
    connection: dict[str, Any] = json.loads(plain)
    return connection


def _bound_to(project: str, gateway: str) -> bytes:
    return "\0".join(("connection", project, gateway)).encode()
