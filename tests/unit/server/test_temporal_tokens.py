"""Tokens for Temporal: in the form that its own claim mapper reads, and of no worth where they are not meant for."""

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from server.projects import Project
from server.temporal_tokens import TemporalTokens
from tcloud.wire.executors import ExecutorKind

_ALGORITHM = "ES256"

PROJECTS = [Project("acme", "shop"), Project("acme", "clinic")]


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


def parts(token: str) -> list[Any]:
    """Header and claims."""
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def test_temporals_claim_mapper_reads_subject_and_permissions() -> None:
    header, claims = parts(TemporalTokens(ProcessSigner()).for_frontend(PROJECTS, "server"))
    # It looks the key up by its id, takes RS256 and ES256, and asks for a subject.
    assert header["alg"] == "ES256"
    assert header["kid"]
    assert claims["sub"] == "server"
    assert claims["permissions"] == ["acme.shop:write", "acme.clinic:write"]
    assert claims["exp"] - claims["iat"] == 600


async def test_what_is_good_at_the_edge_is_good_nowhere_else() -> None:
    tokens = TemporalTokens(ProcessSigner())
    token = tokens.for_edge(PROJECTS[0], "executor", ExecutorKind.RUN)
    assert "permissions" not in parts(token)[1]
    found = await tokens.read_edge(token)
    assert found is not None
    assert (found.identity_id, found.project, found.kind) == ("executor", PROJECTS[0], ExecutorKind.RUN)
    assert await tokens.read_edge(tokens.for_frontend(PROJECTS, "executor")) is None
    assert await TemporalTokens(ProcessSigner()).read_edge(token) is None


async def test_a_token_that_was_good_expires() -> None:
    signer = ProcessSigner()
    token = TemporalTokens(signer, timedelta(seconds=-1)).for_edge(PROJECTS[0], "executor", ExecutorKind.RUN)
    assert await TemporalTokens(signer).read_edge(token) is None
