import pytest

from server.projects import Project, parse_projects


def test_a_project_has_a_namespace_and_a_schema() -> None:
    project = Project.parse("my-org.main")
    assert (project.org, project.name) == ("my-org", "main")
    assert project.namespace == "my-org.main"
    assert project.state_schema == "sqlmesh_my_org_main"


@pytest.mark.parametrize("text", ["", "main", "a.b.c", "A.b", "a.", ".b", "a b.c", "a.b\n"])
def test_what_is_no_project_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a project"):
        Project.parse(text)


def test_no_two_projects_share_their_state() -> None:
    assert parse_projects(["a.b", "a.b", "a.c"]) == [Project("a", "b"), Project("a", "c")]
    with pytest.raises(ValueError, match="sqlmesh_a_b_c"):
        parse_projects(["a.b_c", "a_b.c"])
