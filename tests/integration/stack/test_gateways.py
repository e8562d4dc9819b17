from pathlib import Path

import pytest
from sqlmesh.core.notification_target import BasicSMTPNotificationTarget, SlackWebhookNotificationTarget

from stack.errors import StackError
from stack.gateways import project_variables
from tempomesh_runner.configuration import config_from_environment


def test_connections_become_variables_and_files_absolute(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        """
        gateways:
          local:
            connection: {type: duckdb, database: db/local.duckdb}
            state_connection: {type: duckdb, database: state.duckdb}
          far:
            connection: {type: postgres, host: far, port: 5433, user: me, password: secret, database: shop}
            scheduler: {type: cloud}
        default_gateway: far
        model_defaults: {dialect: duckdb}
        """
    )
    assert project_variables(tmp_path) == {
        "SQLMESH__DEFAULT_GATEWAY": "far",
        "SQLMESH__GATEWAYS__LOCAL__CONNECTION__TYPE": "duckdb",
        "SQLMESH__GATEWAYS__LOCAL__CONNECTION__DATABASE": str(tmp_path / "db/local.duckdb"),
        "SQLMESH__GATEWAYS__FAR__CONNECTION__TYPE": "postgres",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__HOST": "far",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__PORT": "5433",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__USER": "me",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__PASSWORD": "secret",
        "SQLMESH__GATEWAYS__FAR__CONNECTION__DATABASE": "shop",
    }


def test_who_is_notified_becomes_variables_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(
        """
        gateways: {local: {connection: {type: duckdb, database: local.duckdb}}}
        model_defaults: {dialect: duckdb}
        notification_targets:
          - {type: slack_webhook, url: 'https://chat.example.com/x', notify_on: [run_start, audit_failure]}
        username: ada
        users:
          - username: ada
            email: ada@example.com
            notification_targets:
              - {type: smtp, host: mail, user: me, password: secret, sender: a@example.com,
                 recipients: [ada@example.com], notify_on: [run_failure]}
        """
    )
    for name, value in project_variables(tmp_path).items():
        monkeypatch.setenv(name, value)

    config = config_from_environment()

    (slack,) = config.notification_targets
    assert isinstance(slack, SlackWebhookNotificationTarget)
    assert (slack.url, sorted(slack.notify_on)) == ("https://chat.example.com/x", ["audit_failure", "run_start"])
    (ada,) = config.users
    (mail,) = ada.notification_targets
    assert isinstance(mail, BasicSMTPNotificationTarget)
    assert mail.password is not None
    assert (config.username, mail.password.get_secret_value(), mail.is_configured) == ("ada", "secret", True)


def test_a_folder_without_a_project_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="config could not be found") as caught:
        project_variables(tmp_path)
    assert "\n" not in str(caught.value)
