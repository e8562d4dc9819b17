"""Signed tokens: who signs them, and what a token says that was signed here."""

from collections.abc import Mapping
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

__all__ = ["ProcessSigner", "TokenSigner"]

_ALGORITHM = "ES256"
"""Temporal's own authorizer takes RS256 and ES256, nothing else."""


class TokenSigner(Protocol):
    """Signs claims, and reads what it has signed. It may ask a database: not to be called from an event loop."""

    def refresh(self) -> None:
        """To be called before `sign`."""

    def sign(self, claims: Mapping[str, Any], *, kind: str = "JWT") -> str:
        """A token with these claims; `kind` is what its header says as `typ`."""

    def verify_with_new_keys(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that was signed here; None of any other. Whether it has expired is not looked at."""


class ProcessSigner:
    """Signs with a key that is made when the process starts: its tokens are worth nothing to any other process."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", auto_kid=True)

    def refresh(self) -> None:
        """Nothing: there is one key."""

    def sign(self, claims: Mapping[str, Any], *, kind: str = "JWT") -> str:
        """A token with these claims."""
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid, "typ": kind}, dict(claims), self._key)

    def verify_with_new_keys(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that was signed here."""
        try:
            return jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
