"""How the server finds Temporal: by the variables and profiles of Temporal's own tools."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from temporalio.service import TLSConfig

from server.settings import ServerSettings
from server.temporal_connection import TemporalConnection

PROFILES = """
[profile.default]
address = "in-the-file:7233"

[profile.cloud]
address = "acme.a1b2c.tmprl.cloud:7233"
namespace = "ignored"
api_key = "key-of-the-file"

[profile.mutual]
address = "temporal.example.com:7233"
[profile.mutual.tls]
client_cert_path = "client.pem"
client_key_path = "client.key"
"""


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file, and a folder with a client's certificate."""
    (tmp_path / "temporal.toml").write_text(PROFILES)
    (tmp_path / "client.pem").write_text("a certificate")
    (tmp_path / "client.key").write_text("a key")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "temporal.toml")


def test_without_a_word_it_is_on_the_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "/dev/null")
    assert TemporalConnection.load() == TemporalConnection("127.0.0.1:7233", tls=False)


def test_a_profile_is_read_and_variables_win_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TemporalConnection.load().address == "in-the-file:7233"
    monkeypatch.setenv("TEMPORAL_PROFILE", "cloud")
    cloud = TemporalConnection.load()
    assert (cloud.address, cloud.api_key, cloud.uses_tls) == ("acme.a1b2c.tmprl.cloud:7233", "key-of-the-file", True)
    assert "key-of-the-file" not in repr(cloud)
    monkeypatch.setenv("TEMPORAL_API_KEY", "key-of-the-variable")
    assert TemporalConnection.load().api_key == "key-of-the-variable"


def test_a_client_certificate_is_read_from_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "mutual")
    found = TemporalConnection.load()
    assert isinstance(found.tls, TLSConfig)
    assert (found.tls.client_cert, found.tls.client_private_key) == (b"a certificate", b"a key")


@pytest.mark.parametrize(
    ("name", "value"), [("TEMPORAL_PROFILE", "nobodys"), ("TEMPORAL_TLS_CLIENT_CERT_PATH", "nowhere.pem")]
)
def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="TEMPORAL_"):
        TemporalConnection.load()


def test_an_edge_says_where_it_is_reached() -> None:
    keys = {"k": "A" * 43 + "="}
    settings = {"database_url": "x", "projects": ["a.b"], "codec_keys": keys, "secret_keys": keys, "edge_port": 7243}
    with pytest.raises(ValidationError, match="TEMPORAL_PUBLIC_ADDRESS"):
        ServerSettings.model_validate(settings)
