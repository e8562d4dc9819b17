"""The people and services that a server knows."""

from datetime import datetime

from pydantic import BaseModel, SecretStr, field_serializer

__all__ = ["IdentityRecord", "IdentityRequest", "Revealed"]


class IdentityRecord(BaseModel):
    """An identity, without its secret."""

    identity_id: str
    kind: str
    """`person` or `service`."""
    display_name: str | None = None
    roles: list[str] = []
    """`<org>.<project>:<role>` each."""
    is_administrator: bool = False
    """Whether it administers the identities of the server."""
    password_is_one_time: bool = False
    """Whether the person has not chosen a password yet."""
    created_by: str
    created_at: datetime
    disabled_at: datetime | None = None


class IdentityRequest(BaseModel):
    """An identity to be made."""

    identity_id: str
    display_name: str | None = None
    role: str | None = None
    """A role in the project, to begin with."""
    is_administrator: bool = False


class Revealed(BaseModel):
    """A secret that was just made: it is told once."""

    identity_id: str
    secret: SecretStr
    """A service's secret, or a person's one-time password."""

    @field_serializer("secret", when_used="json")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()
