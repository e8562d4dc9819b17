"""Whatever is sent, the server neither fails nor says more than a line.

A few examples of each call here; `just fuzz` tries many. `TEMPOMESH_FUZZ_EXAMPLES` says how many.
"""

import inspect
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from server.projects import Role
from tempomesh_runner import state_answers
from tests.integration.server.conftest import RunningServer

EXAMPLES = int(os.environ.get("TEMPOMESH_FUZZ_EXAMPLES", "2"))
FORBIDDEN = 403
BUSY = 503
"""What may be said where something else has to end first, always with a code."""

bounded = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES < 10,
    suppress_health_check=list(HealthCheck),
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["\x00", "prod", '"a"."b"', "../x", "x" * 9000]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**400])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NASTY_BODIES = (
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50_000, b'{"ids":' * 5_000),
    b'{"ids": [["\\ud800", "\\u0000"]]}',
)
NASTY_LEAVES = (("\\u0000", "1"), ("x", str(10**30)), ("\\ud800", str(2**63)), ("x", "-1"))
"""Texts and numbers, as JSON."""

BODIES = st.sampled_from(NASTY_BODIES) | st.binary(max_size=40)


def arguments_of(method: str) -> list[str]:
    """The arguments that a call of the state contract reads."""
    source = inspect.getsource(state_answers._answer)
    (case,) = re.findall(rf'case "{method}":\n(.*?)(?=\n        case )', source, re.DOTALL)
    return re.findall(r'args\["(\w+)"\]', case)


def ids() -> st.SearchStrategy[object]:
    return st.lists(st.tuples(TEXTS, TEXTS), max_size=3)


def arguments(method: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({name: VALUES | ids() for name in arguments_of(method)})


STATE_METHODS = sorted(state_answers.READ_METHODS | state_answers.WRITE_METHODS - {"remove_state"})
"""Removing everything takes a second, and means the same whatever the arguments are."""


class Answers:
    """Collects what is wrong with answers: all of it is wanted, and not the smallest example."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def check(self, answer: httpx.Response | requests.Response, *what: object) -> None:
        """An answer is no failure, and a refusal is a code and a line."""
        if answer.status_code < 400:
            return
        body = answer.json() if answer.headers.get("content-type") == "application/json" else {}
        is_refusal = answer.status_code < 500 or answer.status_code == BUSY
        is_a_line = len(str(body.get("message", "")).splitlines()) <= 1
        if not (is_refusal and body.get("code", body.get("error")) and is_a_line):
            self.wrong.append(f"{' '.join(map(repr, what))}\n    {answer.status_code} {answer.text[:300]}")

    def are_right(self) -> None:
        assert not self.wrong, "\n".join(self.wrong)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def test_no_call_of_the_api_fails(scheduled: RunningServer, session: requests.Session) -> None:
    root = scheduled.url.split("/sqlmesh")[0]
    document = httpx.get(f"{root}/openapi.json", trust_env=False).json()
    known = dict(zip(("org", "project"), scheduled.url.split("/")[-2:], strict=True))
    answers = Answers()
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        strategies = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

        @bounded
        @given(case=st.one_of(strategies), role=st.sampled_from(Role))
        def try_it(case: Any, role: Role) -> None:
            case.path_parameters = {**(case.path_parameters or {}), **known} if case.path_parameters else {}
            headers = {"Authorization": f"Bearer {role}-token"}
            answer = session.request(**case.as_transport_kwargs(base_url=root, headers=headers), timeout=60)
            answers.check(answer, case.method, case.path, role, case.path_parameters, case.query, case.body)

        try_it()
    answers.are_right()


def test_no_value_makes_a_call_fail(scheduled: RunningServer) -> None:
    """Each parameter and each body, one after another, with what databases and parsers choke on."""
    root = scheduled.url.split("/sqlmesh")[0]
    answers = Answers()
    clients = {role: scheduled.client(role) for role in (Role.ADMIN, Role.EXECUTOR, Role.WORKER)}
    document = httpx.get(f"{root}/openapi.json", trust_env=False).json()
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            allowed = list(clients.values())
            for address, body in nasty(path, route, scheduled.url, document["components"]["schemas"]):
                answer = allowed[0].request(method, f"{root}{address}", content=body)
                while answer.status_code == FORBIDDEN and len(allowed) > 1:
                    del allowed[0]
                    answer = allowed[0].request(method, f"{root}{address}", content=body)
                answers.check(answer, method, address, (body or b"")[:120])
    for client in clients.values():
        client.close()
    answers.are_right()


def nasty(
    path: str, route: dict[str, Any], project: str, schemas: dict[str, Any]
) -> Iterator[tuple[str, bytes | None]]:
    """Addresses and bodies for a route."""
    org, name = project.split("/")[-2:]
    known = path.replace("{org}", org).replace("{project}", name)
    plain = re.sub(r"\{index\}", "0", known)
    plain = re.sub(r"\{\w+\}", "x", plain)
    has_body = "requestBody" in route
    required = "&".join(
        f"{each['name']}=x" for each in route.get("parameters", ()) if each["in"] == "query" and each.get("required")
    )
    for text in ("%00", "%ff", "9" * 3000):
        if re.search(r"\{\w+\}", known):
            yield f"{re.sub(r'{[a-z_]+}', text, known)}?{required}", b"{}" if has_body else None
        for each in route.get("parameters", ()):
            if each["in"] == "query":
                yield f"{plain}?{required}&{each['name']}={text}", b"{}" if has_body else None
    if has_body:
        for body in [b"[" * 50_000, b"\xff", *filled(route, schemas)]:
            yield f"{plain}?{required}", body


def filled(route: dict[str, Any], schemas: dict[str, Any]) -> Iterator[bytes]:
    """Bodies that are whole, each leaf of which is nasty."""
    (content,) = route["requestBody"]["content"].values()
    for text, number in NASTY_LEAVES:
        yield json_of(content["schema"], schemas, text, number).encode()


def json_of(schema: dict[str, Any], schemas: dict[str, Any], text: str, number: str) -> str:
    """A value of a schema as JSON: every property is there."""
    if "$ref" in schema:
        return json_of(schemas[schema["$ref"].split("/")[-1]], schemas, text, number)
    if "anyOf" in schema:
        return json_of(schema["anyOf"][0], schemas, text, number)
    if "enum" in schema or "const" in schema:
        return json.dumps(schema.get("const", schema.get("enum", [None])[0]))
    match schema.get("type"):
        case "object":
            rest = schema.get("additionalProperties")
            properties = schema.get("properties", {"x": rest if isinstance(rest, dict) else {}})
            items = (f'"{name}": {json_of(each, schemas, text, number)}' for name, each in properties.items())
            return "{" + ", ".join(items) + "}"
        case "array":
            parts = schema.get("prefixItems") or [schema.get("items", {})]
            return "[" + ", ".join(json_of(each, schemas, text, number) for each in parts) + "]"
        case "integer" | "number":
            return number
        case "boolean":
            return "false"
        case "string" if schema.get("format") == "date-time":
            return '"0001-01-01T00:00:00+23:59"'
    return f'"{text}"'


def test_no_state_call_fails(server: RunningServer) -> None:
    answers = Answers()
    with server.client(Role.EXECUTOR) as executor:
        for method in [*STATE_METHODS, "nothing"]:
            written = arguments(method).map(lambda found: json.dumps(found).encode()) if method != "nothing" else BODIES

            @bounded
            @given(body=written | BODIES, called=st.just(method))
            def try_it(body: bytes, called: str) -> None:
                answers.check(executor.post(f"state/{called}", content=body), called, body[:200])

            try_it()
    answers.are_right()


def test_no_token_fails(server: RunningServer, session: requests.Session) -> None:
    answers = Answers()
    letters = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
    tokens = st.text(letters, max_size=60).map(str.strip) | st.just("x" * 40_000)

    @bounded
    @given(token=tokens, scheme=st.sampled_from(["Bearer", "bearer", "Basic", ""]))
    def try_it(token: str, scheme: str) -> None:
        header = f"{scheme} {token}".strip().encode("latin-1")
        answer = session.get(f"{server.url}/api/plans", headers={"Authorization": header}, timeout=60)
        answers.check(answer, header)
        assert answer.status_code == 401, header

    try_it()
    answers.are_right()


def test_no_argument_becomes_sql(server: RunningServer) -> None:
    """SQLMesh writes times into its SQL as they are."""
    injected = "0 OR TRUE"
    calls = {
        "get_expired_environments": {"current_ts": injected, "name": None},
        "get_expired_snapshots": {"batch_range": {"start": {}, "end": {}}, "current_ts": injected, "ignore_ttl": False},
        "get_snapshots_by_names": {"names": ["a"], "current_ts": injected, "exclude_expired": True},
    }
    with server.client(Role.VIEWER) as viewer:
        for method, arguments in calls.items():
            answer = viewer.post(f"state/{method}", json=arguments)
            assert (answer.status_code, answer.json()["code"]) == (422, "TM-STATE"), method
