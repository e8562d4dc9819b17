"""The bookkeeping of the unit DAG, held against SQLMesh's own `concurrent_apply_to_dag`."""

from hypothesis import given
from hypothesis import strategies as st
from sqlmesh.utils.concurrency import concurrent_apply_to_dag
from sqlmesh.utils.dag import DAG

from workflows.payloads import UnitGraph, UnitResult, UnitState
from workflows.walk import UnitWalk


@st.composite
def graphs(draw: st.DrawFn) -> UnitGraph:
    count = draw(st.integers(0, 25))
    dependencies = [
        sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(count)
    ]
    kinds = "".join(draw(st.sampled_from("ecd")) for _ in range(count))
    return UnitGraph(kinds=kinds, dependencies=dependencies)


def walk_to_the_end(walk: UnitWalk, failing: set[int], seed: int) -> list[int]:
    """Drives the walk with segments in flight that end in any order; returns the units in the order of their start."""
    started: list[int] = []
    in_flight: list[list[int]] = []
    while True:
        while segment := walk.take():
            in_flight.append(segment)
        if not in_flight:
            return started
        segment = in_flight.pop(seed % len(in_flight))
        finished = next((place for place, unit in enumerate(segment) if unit in failing), len(segment))
        started.extend(segment[: finished + 1])
        walk.finish_segment(segment, UnitResult(finished=finished, error="no" if finished < len(segment) else None))


@given(graphs(), st.sets(st.integers(0, 24)), st.integers(0, 100))
def test_what_runs_and_what_is_skipped_is_what_sqlmesh_does(graph: UnitGraph, failing: set[int], seed: int) -> None:
    failing = {unit for unit in failing if unit < len(graph.kinds) and graph.kinds[unit] != "d"}
    dag: DAG[int] = DAG()
    for number, dependencies in enumerate(graph.dependencies):
        dag.add(number, dependencies)

    def apply(unit: int) -> None:
        if unit in failing:
            raise ValueError(unit)

    errors, skipped = concurrent_apply_to_dag(dag, apply, 1, raise_on_error=False) if graph.kinds else ([], [])

    walk = UnitWalk(graph)
    started = walk_to_the_end(walk, failing, seed)

    states = walk.states
    assert {n for n, s in enumerate(states) if s == UnitState.FAILED} == {error.node for error in errors}
    assert {n for n, s in enumerate(states) if s == UnitState.SKIPPED} == set(skipped)
    assert UnitState.WAITING not in states
    assert len(started) == len(set(started)), "a unit started twice"


@given(graphs(), st.integers(0, 100))
def test_nothing_starts_before_what_it_depends_on(graph: UnitGraph, seed: int) -> None:
    started = walk_to_the_end(UnitWalk(graph), set(), seed)

    place = {unit: position for position, unit in enumerate(started)}
    for unit in started:
        assert all(place[d] < place[unit] for d in graph.dependencies[unit] if graph.kinds[d] != "d")


@given(graphs(), st.integers(0, 30), st.integers(0, 100))
def test_a_walk_that_continues_as_new_ends_like_one_that_did_not(graph: UnitGraph, after: int, seed: int) -> None:
    first = UnitWalk(graph)
    for _ in range(after):
        segment = first.take()
        if not segment:
            break
        first.finish_segment(segment, UnitResult(finished=len(segment)))

    second = UnitWalk(graph, first.states)
    walk_to_the_end(second, set(), seed)

    assert set(second.states) <= {UnitState.DONE}


def test_a_chain_is_one_segment() -> None:
    walk = UnitWalk(UnitGraph(kinds="eee", dependencies=[[], [0], [1]]))

    assert walk.take() == [0, 1, 2]


def test_a_segment_ends_where_the_graph_forks() -> None:
    walk = UnitWalk(UnitGraph(kinds="eeee", dependencies=[[], [0], [1], [1]]))

    assert walk.take() == [0, 1]
    walk.finish_segment([0, 1], UnitResult(finished=2))
    assert [walk.take(), walk.take()] == [[2], [3]]


def test_an_interrupted_segment_goes_on_where_it_stopped() -> None:
    walk = UnitWalk(UnitGraph(kinds="eee", dependencies=[[], [0], [1]]))
    walk.take()

    walk.finish_segment([0, 1, 2], UnitResult(finished=1))

    assert walk.take() == [1, 2]
