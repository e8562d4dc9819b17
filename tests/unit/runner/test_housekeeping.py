"""What expires may have been made by a materialization that is nowhere any more."""

import pytest
from sqlmesh.core.snapshot import evaluator
from sqlmesh.core.snapshot.evaluator import CustomMaterialization
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.console import Event, RelayConsole
from tempomesh_runner.housekeeping import any_materialization


def test_a_materialization_that_is_not_found_drops_tables() -> None:
    events: list[Event] = []
    with any_materialization(RelayConsole(events.append)):
        for _ in range(2):
            _, found = evaluator.get_custom_materialization_type_or_raise("nosuch")
            assert found is CustomMaterialization
    assert [event["type"] for event in events] == ["log_warning"]
    with pytest.raises(SQLMeshError, match="nosuch"):
        evaluator.get_custom_materialization_type_or_raise("nosuch")
