"""Devices without a browser: they show a code, and a person lets them in from another one."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant, DeviceCredentialMixin
from sqlalchemy import Connection, delete, func, insert, select, update

from server.identities import hash_of
from server.signin.issuing import Person, find_person
from server.signin.scopes import requested_scope
from server.signin.tables import device_codes

if TYPE_CHECKING:
    from server.signin.authorization import Authorization

__all__ = ["DEVICE_PATH", "DeviceEndpoint", "DeviceGrant", "answer_device", "waiting_device"]

DEVICE_PATH = "/auth/device"
_SECONDS = 600
_INTERVAL_SECONDS = 5


class DeviceEndpoint(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """Gives a device its codes."""

    CLIENT_AUTH_METHODS = ("none",)
    EXPIRES_IN = _SECONDS
    INTERVAL = _INTERVAL_SECONDS
    server: "Authorization"

    def get_verification_uri(self) -> str:
        return f"{self.server.issuer.url}{DEVICE_PATH}"

    def save_device_credential(self, client_id: str, scope: str | None, data: dict[str, Any]) -> None:
        self.server.connection.execute(
            insert(device_codes).values(
                code_hash=hash_of(data["device_code"]),
                user_code=data["user_code"],
                client_id=client_id,
                scope=requested_scope(scope),
                expires_at=datetime.now(UTC) + timedelta(seconds=_SECONDS),
            )
        )


@dataclass(frozen=True)
class _Device(DeviceCredentialMixin):  # type: ignore[misc]
    code_hash: str
    user_code: str
    client_id: str
    scope: str
    identity_id: str | None
    denied_at: datetime | None
    polled_at: datetime | None
    expires_at: datetime

    def get_client_id(self) -> str:
        return self.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return self.expires_at < datetime.now(UTC)


class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
    """Lets a device in once a person has said so."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)
    server: "Authorization"

    def query_device_credential(self, device_code: str) -> _Device | None:
        row = self.server.connection.execute(
            select(device_codes).where(device_codes.c.code_hash == hash_of(device_code)).with_for_update()
        ).first()
        return _Device(**row._mapping) if row is not None else None

    def validate_device_credential(self, credential: _Device) -> Person:
        self._device = credential
        person: Person = super().validate_device_credential(credential)
        return person

    def query_user_grant(self, user_code: str) -> tuple[Person | None, bool] | None:  # noqa: ARG002 (it was looked up)
        if self._device.denied_at is not None:
            return None, False
        if self._device.identity_id is None:
            return None
        person = find_person(self.server.connection, self._device.identity_id)
        return person, person is not None

    def should_slow_down(self, credential: _Device) -> bool:
        now = datetime.now(UTC)
        self.server.connection.execute(
            update(device_codes).where(device_codes.c.code_hash == credential.code_hash).values(polled_at=now)
        )
        # Half of what was asked for: clients' clocks and networks are no better.
        longest = timedelta(seconds=_INTERVAL_SECONDS / 2)
        return credential.polled_at is not None and now - credential.polled_at < longest

    def generate_token(self, *, user: Person, scope: str, **_: Any) -> dict[str, Any]:
        connection, issuer = self.server.connection, self.server.issuer
        client_id = self.request.client.client_id
        connection.execute(delete(device_codes).where(device_codes.c.code_hash == self._device.code_hash))
        sign_in_id = issuer.begin_sign_in(connection, user, client_id)
        return issuer.to_person(connection, user, client_id, scope, sign_in_id, None)


def waiting_device(connection: Connection, user_code: str) -> str | None:
    """The user code, as it is spelled, of a device that waits for an answer; None if there is none."""
    spelled = "".join(character for character in user_code.upper() if character.isalnum())
    found: str | None = connection.execute(
        select(device_codes.c.user_code).where(func.replace(device_codes.c.user_code, "-", "") == spelled, *_waits())
    ).scalar()
    return found


def answer_device(connection: Connection, user_code: str, person: Person, *, is_allowed: bool) -> bool:
    """Lets a device in as a person, or turns it away; False if it does not wait any more."""
    values = {"identity_id": person.identity_id} if is_allowed else {"denied_at": func.now()}
    answered = connection.execute(
        update(device_codes)
        .where(device_codes.c.user_code == user_code, *_waits())
        .values(values)
        .returning(device_codes.c.user_code)
    )
    return answered.scalar() is not None


def _waits() -> list[Any]:
    return [
        device_codes.c.identity_id.is_(None),
        device_codes.c.denied_at.is_(None),
        device_codes.c.expires_at > func.now(),
    ]
