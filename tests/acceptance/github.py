"""As much of GitHub's REST and GraphQL APIs as SQLMesh's bot uses, on the loopback, with one pull request."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["GitHub", "github"]

REPOSITORY = "/repos/acme/shop"
NUMBER = 7


@dataclass
class GitHub:
    """What the bot has left there."""

    url: str = ""
    checks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Every state of each check, by its name."""
    comments: list[dict[str, Any]] = field(default_factory=list)
    is_merged: bool = False
    unknown: list[str] = field(default_factory=list)
    """Calls that nobody here can answer."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """The answer of GitHub, in the form of its documentation."""
        comments = f"{REPOSITORY}/issues/{NUMBER}/comments"
        match method, path.split("?")[0]:
            case "GET", p if p == f"{REPOSITORY}/pulls/{NUMBER}":
                return self.pull_request
            case "GET", p if p == f"{REPOSITORY}/issues/{NUMBER}":
                return {"number": NUMBER, "url": self._of(p), "comments_url": self._of(comments)}
            case "GET", p if p == f"{REPOSITORY}/pulls/{NUMBER}/reviews":
                return []
            case "GET", p if p == comments:
                return self.comments
            case "POST", p if p == comments:
                number = len(self.comments)
                comment = {"id": number, "url": self._of(f"{REPOSITORY}/issues/comments/{number}"), **body}
                self.comments.append(comment)
                return comment
            case "PATCH", p if found := re.fullmatch(rf"{REPOSITORY}/issues/comments/(\d+)", p):
                self.comments[int(found.group(1))].update(body)
                return self.comments[int(found.group(1))]
            case "POST", p if p == f"{REPOSITORY}/check-runs":
                self.checks[body["name"]] = [body]
                return {**body, "id": len(self.checks), "url": self._of(f"{REPOSITORY}/check-runs/{len(self.checks)}")}
            case "PATCH", p if found := re.fullmatch(rf"{REPOSITORY}/check-runs/(\d+)", p):
                name = list(self.checks)[int(found.group(1)) - 1]
                self.checks[name].append(body)
                return {**body, "id": int(found.group(1)), "url": self._of(p), "name": name}
            case "PUT", p if p == f"{REPOSITORY}/pulls/{NUMBER}/merge":
                self.is_merged = True
                return {"merged": True, "sha": "2" * 40, "message": "Pull Request successfully merged"}
            case "POST", "/graphql":
                return {"data": {"repository": {"pullRequest": {"mergeStateStatus": "CLEAN"}}}}
        self.unknown.append(f"{method} {path}")
        return {}

    @property
    def pull_request(self) -> dict[str, Any]:
        """The pull request, as events and the API have it."""
        return {
            "number": NUMBER,
            "url": self._of(f"{REPOSITORY}/pulls/{NUMBER}"),
            "_links": {"self": {"href": self._of(f"{REPOSITORY}/pulls/{NUMBER}")}},
            "merged": False,
            "base": {"ref": "main", "sha": "0" * 40},
            "head": {"ref": "change", "sha": "1" * 40},
        }

    def conclusions(self) -> dict[str, str]:
        """How each check ended."""
        return {
            name.removeprefix("SQLMesh - "): states[-1].get("conclusion", "?") for name, states in self.checks.items()
        }

    def _of(self, path: str) -> str:
        return f"{self.url}{path}"


@contextmanager
def github() -> Iterator[GitHub]:
    """Serves it."""
    state = GitHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.dumps(
                state.answer(self.command, self.path, json.loads(self.rfile.read(size) or b"{}"))
            ).encode()
            self.send_response(201 if self.command == "POST" and self.path != "/graphql" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 (their names)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
