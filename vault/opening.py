"""Opens sealed connections: for executors. A contract of the imports keeps it away from the server."""

import json
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.envelopes import NONCE_BYTES, bound_to

__all__ = ["EnvelopeError", "open_envelope"]


class EnvelopeError(Exception):
    """A sealed connection that does not open; the message says nothing of what is in it."""


def open_envelope(sealed: bytes, data_key: bytes, *, project: str, gateway: str) -> dict[str, Any]:
    """The connection that was sealed for a gateway of a project.

    Raises:
        EnvelopeError: If it was altered, or sealed with another key or for another gateway or project.
    """
    try:
        plain = AESGCM(data_key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to(project, gateway))
    except (InvalidTag, ValueError):
        raise EnvelopeError(f"The connection of gateway '{gateway}' does not open: add it again.") from None
    connection: dict[str, Any] = json.loads(plain)
    return connection
