"""Rules of signing in: what is asked for and granted, where a browser may be sent, when somebody has to wait."""

import pytest
from authlib.oauth2.rfc6749 import InvalidScopeError

from server.identities import Identity, IdentityKind
from server.permissions import ANYWHERE, HeldGrant, Permissions, actions_of
from server.projects import Project, Role
from server.signin.attempts import Attempts, TooManyAttemptsError
from server.signin.clients import PublicClient
from server.signin.passwords import hash_password, is_password, password_problem
from server.signin.returning import OVERVIEW, safe_return
from server.signin.scopes import is_narrowed, requested_scope
from tcloud.wire.grants import Action

WEB = Project("acme", "web")


def test_a_scope_is_everything_unless_it_names_projects() -> None:
    assert requested_scope(None) == "tbk:scope:projects"
    assert requested_scope("openid email") == "tbk:scope:projects openid email"
    assert not is_narrowed(requested_scope("openid"))
    assert is_narrowed(requested_scope("openid tbk:scope:project:acme:web:viewer"))
    for scope in ("admin", "tbk:scope:project:acme:web:owner", "tbk:scope:project:acme:web:viewer:x", "tbk:scope:"):
        with pytest.raises(InvalidScopeError):
            requested_scope(scope)


@pytest.mark.parametrize(
    ("scope", "held", "actions", "machines"),
    [
        (None, Role.ADMIN, set(Action), set()),
        ({"tbk:scope:project:acme:web:viewer"}, Role.ADMIN, {Action.VIEW}, set()),
        ({"tbk:scope:project:acme:web:admin"}, Role.VIEWER, {Action.VIEW}, set()),
        ({"tbk:scope:project:acme:other:admin"}, Role.ADMIN, set(), set()),
        ({"tbk:scope:project:acme:web:executor"}, Role.ADMIN, set(), {Role.EXECUTOR}),
        ({"tbk:scope:project:acme:web:admin"}, Role.OPERATOR, {Action.VIEW, Action.RUN, Action.PAUSE}, set()),
        (set(), Role.ADMIN, set(), set()),
    ],
)
def test_a_token_that_was_asked_for_less_is_good_for_less(
    scope: set[str] | None, held: Role, actions: set[Action], machines: set[Role]
) -> None:
    limit = None if scope is None else frozenset(scope)
    permissions = Permissions((HeldGrant(actions_of(held), ANYWHERE, frozenset({"*"})),), frozenset({Role.EXECUTOR}))
    asked = Identity("ada", IdentityKind.PERSON, scope=limit).asked(WEB)
    left = permissions if asked is None else permissions.narrowed(asked)
    assert {action for action in Action if left.everywhere(action)} == actions
    assert left.machine_roles == (machines if scope is not None else {Role.EXECUTOR})


@pytest.mark.parametrize(
    ("uri", "is_taken"),
    [
        ("http://127.0.0.1:29525/auth/handler", True),
        ("http://127.0.0.1:1/", True),
        ("http://127.0.0.1/", False),
        ("https://127.0.0.1:1/", False),
        ("http://localhost:1/", False),
        ("http://127.0.0.1:1@evil.example/", False),
        ("http://evil.example:1/", False),
        ("http://127.0.0.1:1/#fragment", False),
        ("//127.0.0.1:1/", False),
        ("", False),
    ],
)
def test_codes_go_to_the_loopback_only(uri: str, is_taken: bool) -> None:
    assert PublicClient("tcloud").check_redirect_uri(uri) is is_taken


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example",
        "/auth/login",
        "/auth@evil",
        "/auth?x=\\",
        "/auth?x\n",
        "/auth/..//x",
        "",
    ],
)
def test_nobody_is_sent_elsewhere(path: str) -> None:
    assert safe_return(path) == OVERVIEW


def test_people_are_sent_back_to_where_they_were() -> None:
    for path in ("/auth?client_id=tcloud&scope=a%20b", "/auth/device?user_code=AB-CD", "/auth/account"):
        assert safe_return(path) == path


def test_whoever_fails_too_often_has_to_wait() -> None:
    attempts = Attempts("2 per 1 hour", "3 per 1 hour")
    for _ in range(2):
        attempts.check("here", "ada")
        attempts.failed("here", "ada")
    with pytest.raises(TooManyAttemptsError) as caught:
        attempts.check("elsewhere", "ada")
    assert 0 < caught.value.seconds <= 3601
    attempts.check("here", "bob")
    attempts.failed("here", "bob")
    with pytest.raises(TooManyAttemptsError):
        attempts.check("here", "carol")
    attempts.check("elsewhere", "carol")


def test_passwords() -> None:
    kept = hash_password("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert is_password("correct horse battery", kept)
    assert not is_password("correct horse batteri", kept)
    assert not is_password("nobody has this password", None)
    assert not is_password("x" * 100_000, kept)
    assert not is_password("anything", "no hash")
    assert password_problem("correct horse battery", "ada") is None
    for weak in ("short", "x" * 201, "aaaaaaaaaaaaaaaa", "ada@example.com"):
        assert password_problem(weak, "ada@example.com") is not None
