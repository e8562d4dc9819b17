"""The OpenAPI document says of every route who may call it, what it answers, and how it refuses."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from server.access import declare_permissions
from tests.integration.server.conftest import RunningServer
from tests.integration.server.test_access import permission_of

ROOT = Path(__file__).parent.parent.parent.parent
PUBLIC = {"/healthz", "/readyz"}
PREFIX = "/sqlmesh/{org}/{project}/api"
METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture
def document(server: RunningServer) -> dict[str, Any]:
    root = server.url.split("/sqlmesh")[0]
    found: dict[str, Any] = httpx.get(f"{root}/openapi.json", trust_env=False).raise_for_status().json()
    return found


def test_every_route_is_described(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    seen = 0
    for path, methods in document["paths"].items():
        for method in methods.keys() & METHODS:
            route, where = methods[method], f"{method} {path}"
            assert route.get("summary"), where
            assert route["tags"], where
            assert set(route["tags"]) <= tags, where
            permission = route["x-permission"]
            if path in PUBLIC:
                assert permission == {"any_of": ["public"]}, where
                continue
            assert permission["any_of"] == permission_of(method.upper(), path.removeprefix(PREFIX)), where
            assert ("within" in permission) == bool(set(permission["any_of"]) - {"executor", "worker"}), where
            seen += 1
            assert route["security"] == [{"HTTPBearer": []}], where
            answers = route["responses"]
            for status in ("401", "403", "404", "413", "422", "503"):
                schema = answers[status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (where, status)
                assert answers[status]["description"], (where, status)
            assert any(is_described(answer) for status, answer in answers.items() if status[0] == "2"), where
            if method in ("put", "post") and not path.endswith(
                ("/cancel", "/hold", "/invalidate", "/schedule", "/unschedule", "/wanted")
            ):
                assert "requestBody" in route, where
    assert seen > 30


def is_described(answer: dict[str, Any]) -> bool:
    if "content" not in answer:
        # 204: there is nothing to describe.
        return True
    return all(content.get("schema") for content in answer["content"].values())


def test_a_route_without_a_door_is_refused() -> None:
    router = APIRouter()
    router.get("/open")(lambda: None)
    with pytest.raises(RuntimeError, match=r"/open says not who may call it"):
        declare_permissions(router)


def test_every_code_is_explained() -> None:
    explained = (ROOT / "docs" / "api.md").read_text()
    codes = {
        code for file in (ROOT / "server").rglob("*.py") for code in re.findall(r'"(TM-[A-Z]+)"', file.read_text())
    }
    assert len(codes) > 15
    missing = sorted(code for code in codes if f"`{code}`" not in explained)
    assert missing == []
    assert set(re.findall(r"`(TM-[A-Z]+)`", explained)) <= codes, "a code that no server has"
