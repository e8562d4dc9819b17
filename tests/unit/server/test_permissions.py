"""What grants allow: held against ten lines of plain Python."""

import re
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import column
from sqlalchemy.dialects import postgresql

from server.permissions import EVERYTHING, Globs, HeldGrant, Permissions, actions_of
from tcloud.wire.grants import Action, Role
from tempomesh_runner.selection import SelectionError, check_selection

MODELS = {"a": {"tag:x"}, "b": {"tag:x", "tag:y"}, "c": set[str]()}
"""Models, each with the selections that mean it besides its name."""
GLOBS = ("prod", "dev", "dev_*", "*", "d?v", "*_1")
ENVIRONMENTS = ("prod", "dev", "dev_1", "dave", "x_1")

grants = st.builds(
    HeldGrant,
    st.frozensets(st.sampled_from(Action), max_size=3),
    st.frozensets(st.sampled_from(GLOBS), min_size=1, max_size=2).map(Globs),
    st.frozensets(st.sampled_from([EVERYTHING, "a", "c", "tag:x", "tag:y"]), min_size=1, max_size=2),
)


def expand(selection: str) -> set[str]:
    return {name for name, means in MODELS.items() if selection in {*means, name, EVERYTHING}}


def matches(pattern: str, environment: str) -> bool:
    return re.fullmatch(pattern.replace("*", ".*").replace("?", "."), environment) is not None


def allowed(held: Collection[HeldGrant], action: Action, environment: str, model: str) -> bool:
    return any(
        (action in grant.actions or (action == "view" and grant.actions))
        and any(matches(pattern, environment) for pattern in grant.environments.patterns)
        and (action == "view" or any(model in expand(selection) for selection in grant.models))
        for grant in held
    )


@given(st.lists(grants, max_size=4), st.sampled_from(Action), st.sampled_from(ENVIRONMENTS))
def test_nothing_is_allowed_that_no_grant_allows(held: list[HeldGrant], action: Action, environment: str) -> None:
    permissions = Permissions(tuple(held))
    missing = [model for model in MODELS if not allowed(held, action, environment, model)]
    assert permissions.missing(action, environment, MODELS, expand) == missing
    if permissions.everywhere(action):
        assert missing == []
    if not permissions.environments(action).match(environment):
        assert missing == list(MODELS)


@pytest.mark.parametrize("pattern", GLOBS)
def test_sql_matches_as_python_does(pattern: str) -> None:
    globs = Globs(frozenset({pattern}))
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    compiled = globs.clause(column("name")).compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    found = re.search(r"LIKE '(.*?)' ESCAPE", str(compiled))
    for environment in ENVIRONMENTS:
        if found is None:
            assert globs.are_all
            continue
        like = re.escape(found[1].replace("%%", "%").replace("\\_", "\0")).replace("%", ".*").replace("_", ".")
        assert globs.match(environment) == bool(
            re.fullmatch(like.replace("\0", "_").replace("\\\x00", "_"), environment)
        )


def test_roles_are_sets_of_actions() -> None:
    assert actions_of(Role.VIEWER) < actions_of(Role.OPERATOR) < actions_of(Role.DEVELOPER) < actions_of(Role.ADMIN)
    assert actions_of(Role.ADMIN) == set(Action)
    assert Action.PLAN not in actions_of(Role.OPERATOR)


def test_names_of_environments() -> None:
    assert all(Globs.is_valid(pattern) for pattern in GLOBS)
    assert not any(Globs.is_valid(pattern) for pattern in ("", "Prod", "a b", "dev-1", "[ab]", "dev\n"))


def test_selections_that_can_be_read() -> None:
    for selection in ("db.a", "*", "db.*", "tag:x", "tag:x*", "+db.a", "db.a+", "tag:x & ^db.a", "(db.a | db.b)+"):
        check_selection(selection)
    # SQLMesh reads `a & b & c` as `a & b` where it reads it by itself, and not at all where it expands it.
    for selection in ("", "tag:", "db.a db.b", "db.a & db.b & db.c", "(db.a", "git:main", "resource_type:source", "+"):
        with pytest.raises(SelectionError):
            check_selection(selection)
