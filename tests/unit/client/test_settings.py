"""Which project is meant: the command line, then variables, then files."""

from pathlib import Path

import httpx
import pytest

from tcloud.credentials import ClientCredentials, SignedIn, credentials_of
from tcloud.errors import InvalidError
from tcloud.settings import Settings, load

URL = "https://tempomesh.test/sqlmesh/acme/"


def sent(settings: Settings) -> str:
    """The token that requests are signed with at once."""
    request = next(credentials_of(settings).sync_auth_flow(httpx.Request("GET", settings.url)))
    return request.headers["Authorization"].removeprefix("Bearer ")


@pytest.fixture
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TCLOUD_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def two_projects(default: str = "default_project: one") -> str:
    return f"""
projects:
  one: {{url: {URL}one, gateway: warehouse, token: token-of-one, extras: "postgres, slack"}}
  two: {{url: {URL}two, token: token-of-two, pip_executable: /usr/bin/pip}}
{default}
"""


def test_the_default_project_of_the_file(user_home: Path) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    settings = load()
    assert (settings.name, settings.url, settings.gateway) == ("one", f"{URL}one", "warehouse")
    assert settings.extras == ["postgres", "slack"]
    assert sent(settings) == "token-of-one"


def test_the_yml_spelling(user_home: Path) -> None:
    (user_home / "tcloud.yml").write_text(two_projects())
    assert load().name == "one"


def test_the_only_project_needs_no_default(user_home: Path) -> None:
    (user_home / "tcloud.yaml").write_text(f"projects: {{only: {{url: {URL}only}}}}")
    assert load().name == "only"


def test_variables_win_over_the_file(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    monkeypatch.setenv("TCLOUD_TOKEN", "token-of-the-variable")
    monkeypatch.setenv("TCLOUD_GATEWAY", "other")
    monkeypatch.setenv("TCLOUD_EXTRAS", "a,b")
    settings = load()
    assert (settings.name, settings.gateway, settings.extras) == ("one", "other", ["a", "b"])
    assert sent(settings) == "token-of-the-variable"


def test_a_token_stays_with_its_project(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    monkeypatch.setenv("TCLOUD_URL", f"{URL}elsewhere")
    settings = load()
    assert settings.url == f"{URL}elsewhere"
    assert settings.name is None
    assert isinstance(credentials_of(settings), SignedIn)


def test_the_command_line_wins_over_variables(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    monkeypatch.setenv("TCLOUD_URL", f"{URL}elsewhere")
    monkeypatch.setenv("TCLOUD_TOKEN", "token-of-the-variable")
    settings = load("two")
    assert settings.url == f"{URL}two"
    assert sent(settings) == "token-of-two"


def test_the_project_folder_wins_over_home(user_home: Path, tmp_path: Path) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "tcloud.yaml").write_text(f"projects: {{two: {{url: {URL}here}}}}\ndefault_project: two")
    assert load(folders=[folder]).url == f"{URL}here"
    assert load("one", [folder]).url == f"{URL}one"


def test_a_clients_secret_is_traded_for_tokens(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLOUD_URL", f"{URL}one/")
    monkeypatch.setenv("TCLOUD_CLIENT_ID", "ci")
    monkeypatch.setenv("TCLOUD_CLIENT_SECRET", "secret-of-the-client")
    settings = load()
    assert settings.url == f"{URL}one"
    assert isinstance(credentials_of(settings), ClientCredentials)
    assert "secret-of-the-client" not in repr(settings)
    monkeypatch.setenv("TCLOUD_TOKEN", "token")
    assert sent(load()) == "token"
    monkeypatch.delenv("TCLOUD_TOKEN")
    monkeypatch.delenv("TCLOUD_CLIENT_ID")
    with pytest.raises(InvalidError, match="TCLOUD_CLIENT_ID is not"):
        credentials_of(load())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("projects: {one: {url: 'https://h/sqlmesh/a/b', gatewy: x}}", "unknown key 'projects.one.gatewy'"),
        ("project: {}", "unknown key 'project'"),
        ("projects: {one: {url: 'https://h/a/b'}}", "https://<host>/sqlmesh/<org>/<project>"),
        ("projects: {one: {}}", "'projects.one.url': Field required"),
        ("projects: [", "is not valid YAML"),
        ("nonsense", "tcloud.yaml: "),
    ],
)
def test_a_malformed_file_is_one_line(user_home: Path, content: str, complaint: str) -> None:
    (user_home / "tcloud.yaml").write_text(content)
    with pytest.raises(InvalidError) as raised:
        load()
    assert complaint in str(raised.value)
    assert str(user_home / "tcloud.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_says_which_project(user_home: Path) -> None:
    with pytest.raises(InvalidError, match="Set TCLOUD_URL to"):
        load()


def test_an_unknown_project_is_told_with_the_known_ones(user_home: Path) -> None:
    (user_home / "tcloud.yaml").write_text(two_projects())
    with pytest.raises(InvalidError, match=r"no project 'three' \(known: one, two\)"):
        load("three")


def test_a_malformed_url_variable(user_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCLOUD_URL", "tempomesh.test")
    with pytest.raises(InvalidError, match=r"TCLOUD_URL: 'tempomesh.test' is not of the form"):
        load()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings(url=URL).url = "other"  # type: ignore[misc]
