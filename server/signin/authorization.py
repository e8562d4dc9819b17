"""The server as an OAuth 2 authorization server: Authlib's, on one transaction of the database."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import JsonRequest
from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from server.signin.clients import PublicClient, ServiceClient, find_client
from server.signin.codes import CodeGrant, OnlyS256
from server.signin.devices import DeviceEndpoint, DeviceGrant
from server.signin.issuing import Issuer
from server.signin.refreshing import RefreshGrant, Revocation
from server.signin.scopes import requested_scope

__all__ = ["Authorization", "Parameters"]


class Parameters(OAuth2Request, OAuth2Payload):  # type: ignore[misc]
    """A request as Authlib reads it.

    Args:
        method: Its method.
        path: Its path.
        headers: Its headers.
        pairs: Its parameters: of the query where a browser asks, of the body where a client does.
    """

    def __init__(self, method: str, path: str, headers: Mapping[str, str], pairs: Sequence[tuple[str, str]]):
        # Whether TLS is spoken is a matter of what stands before this server.
        super().__init__(method, f"https://server{path}", headers=headers)
        self._pairs = pairs
        self.payload = _Payload(pairs)

    @property
    def args(self) -> dict[str, str]:
        return dict(self._pairs)

    @property
    def form(self) -> dict[str, str]:
        return dict(self._pairs)


class _Payload(OAuth2Payload):  # type: ignore[misc]
    def __init__(self, pairs: Sequence[tuple[str, str]]):
        self._pairs = pairs

    @property
    def data(self) -> dict[str, str]:
        return dict(self._pairs)

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self._pairs:
            values[name].append(value)
        return values


class _ServiceGrant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")
    server: "Authorization"

    def generate_token(self, *, scope: str | None = None, **_: Any) -> dict[str, Any]:
        client: ServiceClient = self.request.client
        return self.server.issuer.to_service(
            self.server.connection, client.client_id, client.token_generation, requested_scope(scope)
        )


class Authorization(AuthorizationServer):  # type: ignore[misc]
    """Answers requests for codes and tokens.

    Args:
        connection: In a transaction, which is to be committed whatever the answer is: a refusal may revoke.
        issuer: What issues tokens.
    """

    def __init__(self, connection: Connection, issuer: Issuer):
        super().__init__()
        self.connection = connection
        self.issuer = issuer
        self.refused: str | None = None
        """The code of the error that was answered."""
        self.asked_by: str | None = None
        """The client that asked, if there is one of that id."""
        self.register_grant(_ServiceGrant)
        self.register_grant(CodeGrant, [OnlyS256()])
        self.register_grant(RefreshGrant)
        self.register_grant(DeviceGrant)
        self.register_endpoint(DeviceEndpoint)
        self.register_endpoint(Revocation)

    def query_client(self, client_id: str) -> PublicClient | ServiceClient | None:
        client = find_client(self.connection, client_id)
        self.asked_by = client.client_id if client else None
        return client

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        """Nothing is left to do: it was saved when it was issued."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens."""

    def validate_requested_scope(self, scope: str | None) -> None:
        requested_scope(scope)

    def create_oauth2_request(self, request: Parameters) -> Parameters:
        return request

    def create_json_request(self, request: Parameters) -> JsonRequest:
        """Authlib asks for it where an endpoint takes JSON; none of these does."""
        raise NotImplementedError

    def handle_response(
        self, status: int, body: Mapping[str, Any] | str, headers: Sequence[tuple[str, str]]
    ) -> Response:
        if not isinstance(body, str):
            self.refused = body.get("error")
        given = {name: value for name, value in headers if name.lower() != "content-type"}
        if isinstance(body, str):
            return Response(body, status_code=status, headers=given)
        return JSONResponse(dict(body), status_code=status, headers=given)
