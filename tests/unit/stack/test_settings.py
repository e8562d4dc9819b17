from pathlib import Path

import pytest

from stack.errors import StackError
from stack.settings import load_temporal_settings
from workflows import attributes


def test_the_file_of_the_checkout_is_read() -> None:
    settings = load_temporal_settings()
    assert settings.namespaces == ["local.main"]
    assert settings.dynamic_config["history.transferProcessorMaxPollRPS"] == 1000


def test_the_search_attributes_are_those_of_the_workflows() -> None:
    names = {getattr(attributes, name).name for name in attributes.__all__}
    assert set(load_temporal_settings().search_attributes) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: {ip: 127.0.0.1, port: 1, ui_port: 2, colour: red}", "at listen.colour"),
        ("a: [", "is not valid YAML"),
        ("", "at the top"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "temporal-dev.yaml"
    path.write_text(text)
    with pytest.raises(StackError, match=message) as caught:
        load_temporal_settings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
