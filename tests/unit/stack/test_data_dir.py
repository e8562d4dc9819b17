import json
import os
import stat
from pathlib import Path

import pytest

from stack.credentials import load_credentials
from stack.data_dir import DataDir
from stack.errors import StackError


def test_a_second_stack_is_told_who_has_the_folder(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with (
        data.locked(),
        pytest.raises(StackError, match=rf"in use by process {os.getpid()} \(.+\).*--data-dir"),
        DataDir(data.root).locked(),
    ):
        pass
    with DataDir(data.root).locked():
        pass


def test_credentials_are_made_once_and_are_private(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    first = load_credentials(data.secrets)
    assert load_credentials(data.secrets) == first
    assert stat.S_IMODE(data.secrets.stat().st_mode) == 0o600
    assert first.admin.get_secret_value() not in repr(first)


def test_a_key_that_earlier_versions_did_not_have_is_added_once(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    now = json.loads(load_credentials(path).model_dump_json())
    path.write_text(json.dumps({name: value for name, value in now.items() if name != "secret_key"}))
    added = load_credentials(path)
    assert load_credentials(path) == added
    assert added.codec_key.get_secret_value() == now["codec_key"]


def test_broken_credentials_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{}")
    with pytest.raises(StackError, match="put the file back"):
        load_credentials(path)
    assert path.read_text() == "{}"
