"""How a person's machine talks to the server: one connection pool, errors as those of `tcloud.errors`."""

import gzip
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from tcloud.api.answers import not_signed_in, raise_for_answer, understood, unreachable
from tcloud.api.proxies import goes_through_proxies
from tcloud.api.trust import trusted_by
from tcloud.credentials import SignInError, as_credentials
from tcloud.tracing import request_hooks

__all__ = ["ApiTransport"]

_COMPRESS_FROM_BYTES = 2048
_TIMEOUT = httpx.Timeout(120, connect=10)
Model = TypeVar("Model", bound=BaseModel)


class ApiTransport:
    """Sends requests to one project.

    Args:
        url: The project's URL, `<server>/sqlmesh/<org>/<project>`.
        credentials: The bearer token, or what gets one; None to go without.
    """

    def __init__(self, url: str, credentials: httpx.Auth | str | None):
        self.url = url.rstrip("/")
        self._credentials = as_credentials(credentials)
        self._open: httpx.Client | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _http(self) -> httpx.Client:
        # Whoever follows events asks for executors in another thread at the same moment.
        with self._opening:
            if self._open is None:
                self._open = httpx.Client(
                    base_url=self.url + "/api/",
                    auth=self._credentials,
                    timeout=_TIMEOUT,
                    trust_env=goes_through_proxies(self.url),
                    verify=trusted_by(self.url),
                    event_hooks={"request": request_hooks()},
                )
            return self._open

    def _changed(self, model: type[Model], method: str, path: str, request: BaseModel) -> Model:
        answer = self._send(method, path, content=request.model_dump_json().encode())
        return understood(model.model_validate_json, answer, self.url)

    def _one(self, model: type[Model], path: str) -> Model:
        return understood(model.model_validate_json, self._send("GET", path), self.url)

    def _many(self, listed: type[Model], path: str, **params: str | int | Sequence[str] | None) -> list[Model]:
        given = {name: value for name, value in params.items() if value is not None}
        many = TypeAdapter(list[listed])  # type: ignore[valid-type]
        return understood(many.validate_json, self._send("GET", path, params=given), self.url)

    def _send(
        self, method: str, path: str, *, content: bytes | None = None, params: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        headers = {}
        if content is not None:
            headers["Content-Type"] = "application/json"
            if len(content) >= _COMPRESS_FROM_BYTES:
                content = gzip.compress(content, compresslevel=3)
                headers["Content-Encoding"] = "gzip"
        try:
            answer = self._http.request(method, path, content=content, params=params, headers=headers)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        except SignInError as error:
            raise not_signed_in(error) from error
        raise_for_answer(answer, self.url)
        return answer
