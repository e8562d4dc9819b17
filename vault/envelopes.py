"""A connection under a data key of its own: the server seals it, and only executors open it.

The data key is what the server's ring of keys seals. So a key of the ring is replaced without a look at any connection,
and whoever has one data key has one connection.
"""

import json
import secrets
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["NONCE_BYTES", "bound_to", "new_data_key", "seal_envelope"]

NONCE_BYTES = 12
"""How much of a sealed connection, at its beginning, is the nonce."""

_KEY_BYTES = 32


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
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(data_key).encrypt(nonce, json.dumps(connection).encode(), bound_to(project, gateway))


def bound_to(project: str, gateway: str) -> bytes:
    """The associated data of a gateway's connection."""
    return "\0".join(("connection", project, gateway)).encode()
