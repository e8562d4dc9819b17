"""Signed tokens: who signs them, and whether a token was signed here."""

from collections.abc import Mapping
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

__all__ = ["ProcessSigner", "TokenSigner"]

_ALGORITHM = "ES256"
"""Temporal's own authorizer takes RS256 and ES256, nothing else."""


class TokenSigner(Protocol):
    """Signs claims, and reads what it has signed."""

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims."""

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a token that was signed here and has not expired; None of any other."""


class ProcessSigner:
    """Signs with a key that is made when the process starts: its tokens are worth nothing to any other process."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", auto_kid=True)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims."""
        return jwt.encode({"alg": _ALGORITHM, "kid": self._key.kid}, dict(claims), self._key)

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a token that was signed here and has not expired; None of any other."""
        try:
            found = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
            jwt.JWTClaimsRegistry(exp={"essential": True}).validate(found)
        except (JoseError, ValueError):
            return None
        return found
