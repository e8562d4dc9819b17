"""The stack's own tokens and keys: made at its first start, kept in a file that only its owner can read."""

import base64
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer

from stack.data_dir import write_private
from stack.errors import StackError

__all__ = ["Credentials", "load_credentials"]

KEY_BYTES = 32


def _token() -> SecretStr:
    return SecretStr(secrets.token_urlsafe(KEY_BYTES))


def _key() -> SecretStr:
    return SecretStr(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


class Credentials(BaseModel):
    """One token for each who signs in at the server, and the keys of what is encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    admin: SecretStr
    worker: SecretStr
    executor: SecretStr
    codec_key: SecretStr
    """Of payloads in Temporal: base64 of 32 bytes."""
    secret_key: SecretStr = Field(default_factory=_key)
    """Of the secrets in the server's database: base64 of 32 bytes. Files of earlier versions have none."""

    @field_serializer("admin", "worker", "executor", "codec_key", "secret_key", when_used="json")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()


def load_credentials(path: Path) -> Credentials:
    """Reads the credentials, or makes them if there are none yet.

    Raises:
        StackError: if the file is there but is not what this module wrote.
    """
    if path.exists():
        try:
            credentials = Credentials.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise StackError(
                f"{path} cannot be read as the stack's credentials: put the file back as it was, "
                "or start with another --data-dir."
            ) from error
        if "secret_key" in credentials.model_fields_set:
            return credentials
    else:
        credentials = Credentials(admin=_token(), worker=_token(), executor=_token(), codec_key=_key())
    write_private(path, credentials.model_dump_json(indent=2) + "\n")
    return credentials
