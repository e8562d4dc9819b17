"""The bookkeeping of the unit DAG, held against SQLMesh's own `concurrent_apply_to_dag`."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from sqlmesh.utils.concurrency import concurrent_apply_to_dag
from sqlmesh.utils.dag import DAG

from workflows.payloads import LimitedUnits, UnitGraph, UnitReport, UnitState
from workflows.walk import UnitWalk

SEEDS = st.integers(0, 1000)


@st.composite
def graphs(draw: st.DrawFn, largest: int = 25) -> UnitGraph:
    count = draw(st.integers(0, largest))
    dependencies = [
        sorted(draw(st.sets(st.integers(0, number - 1), max_size=3))) if number else [] for number in range(count)
    ]
    kinds = "".join(draw(st.sampled_from("ecd")) for _ in range(count))
    limited = draw(st.sets(st.integers(0, count - 1))) if count else set()
    at_once = draw(st.integers(1, 3))
    elsewhere = draw(st.sets(st.integers(0, count - 1))) if count else set()
    return UnitGraph(
        gateways={"home": sorted(elsewhere)},
        kinds=kinds,
        dependencies=dependencies,
        limited=[LimitedUnits(units=sorted(n for n in limited if kinds[n] != "d"), at_once=at_once)],
    )


class Executors:
    """Evaluates bundles as executors do, with every interruption that can come between; each unit ends once."""

    def __init__(self, walk: UnitWalk, graph: UnitGraph, failing: set[int], seed: int):
        self.walk = walk
        self.graph = graph
        self.failing = failing
        self.random = Random(seed)
        self.ended: list[int] = []

    def finish(self) -> None:
        in_flight: list[list[int]] = []
        postponed: list[int] = []
        while True:
            while bundle := self.walk.take():
                in_flight.append(bundle)
                assert len({self.walk.gateway(unit) for unit in bundle}) == 1, "an executor may have one of them only"
                out = [unit for flying in in_flight for unit in flying]
                for limited in self.graph.limited:
                    assert len(set(out) & set(limited.units)) <= limited.at_once, "its model has a limit"
            if in_flight:
                bundle = in_flight.pop(self.random.randrange(len(in_flight)))
                self._check(bundle)
                postponed += self._evaluate(bundle)
            elif postponed:
                self.walk.release(postponed.pop())
            else:
                return

    def _check(self, bundle: list[int]) -> None:
        for place, unit in enumerate(bundle):
            for dependency in self.graph.dependencies[unit]:
                done = self.walk.states[dependency] == UnitState.DONE
                assert done or dependency in bundle[:place], "it is given out before what it depends on"

    def _evaluate(self, bundle: list[int]) -> list[int]:
        reports = dict.fromkeys(bundle, UnitReport.RETURNED)
        postponed: list[int] = []
        for unit in bundle:
            if any(reports.get(d, UnitReport.DONE) is not UnitReport.DONE for d in self.graph.dependencies[unit]):
                continue
            chance = self.random.random()
            if chance < 0.1:
                break
            if chance < 0.2:
                reports[unit] = self.random.choice([UnitReport.CLAIMED, UnitReport.TROUBLE])
                continue
            if chance < 0.3:
                # It takes long: what is done is booked, what is not started goes back, and it ends alone.
                reports[unit] = UnitReport.RUNNING
                postponed += self.walk.book(bundle, "".join(reports.values()))
                reports[unit] = self._end(unit)
                break
            reports[unit] = self._end(unit)
        return postponed + self.walk.book(bundle, "".join(reports.values()))

    def _end(self, unit: int) -> UnitReport:
        assert unit not in self.ended, "it is evaluated twice"
        self.ended.append(unit)
        return UnitReport.FAILED if unit in self.failing else UnitReport.DONE


@given(graphs(), st.sets(st.integers(0, 24)), SEEDS)
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
    Executors(walk, graph, failing, seed).finish()

    states = walk.states
    assert {n for n, s in enumerate(states) if s == UnitState.FAILED} == {error.node for error in errors}
    assert {n for n, s in enumerate(states) if s == UnitState.SKIPPED} == set(skipped)
    assert UnitState.WAITING not in states


@given(graphs(), st.integers(0, 30), SEEDS)
def test_a_walk_that_continues_as_new_ends_like_one_that_did_not(graph: UnitGraph, after: int, seed: int) -> None:
    first = UnitWalk(graph)
    for _ in range(after):
        bundle = first.take()
        if not bundle:
            break
        first.book(bundle, UnitReport.DONE * len(bundle))

    second = UnitWalk(graph, first.states)
    Executors(second, graph, set(), seed).finish()

    assert set(second.states) <= {UnitState.DONE}


def test_a_chain_is_one_bundle() -> None:
    walk = UnitWalk(UnitGraph(kinds="eee", dependencies=[[], [0], [1]]))

    assert walk.take() == [0, 1, 2]


def test_a_chain_ends_where_the_graph_forks() -> None:
    walk = UnitWalk(UnitGraph(kinds="eeeeee", dependencies=[[], [0], [1], [1], [1], [1]]))

    assert walk.take() == [0, 1]
    walk.book([0, 1], "dd")
    assert [walk.take() for _ in range(4)] == [[2], [3], [4], [5]]


def test_what_waits_only_for_units_of_a_bundle_is_in_it() -> None:
    triangles = UnitGraph(kinds="e" * 40, dependencies=[[]] * 20 + [[n, (n + 1) % 20] for n in range(20)])
    walk = UnitWalk(triangles)

    assert walk.take() == [0, 1, 20]


def test_an_interrupted_bundle_goes_on_where_it_stopped() -> None:
    walk = UnitWalk(UnitGraph(kinds="eee", dependencies=[[], [0], [1]]))
    walk.take()

    walk.book([0, 1, 2], "d..")

    assert walk.take() == [1, 2]


def test_bundles_of_what_is_ready_get_smaller_to_the_end() -> None:
    walk = UnitWalk(wide(200))

    sizes = []
    while bundle := walk.take():
        sizes.append(len(bundle))

    assert sum(sizes) == 200
    assert sizes[0] == 13
    assert sizes[-8:] == [1] * 8
    assert sizes == sorted(sizes, reverse=True)


def test_a_few_units_are_shared_out_one_by_one() -> None:
    walk = UnitWalk(wide(10))

    assert [walk.take() for _ in range(10)] == [[n] for n in range(10)]


def test_what_long_units_hold_up_is_taken_by_others_in_ever_smaller_bundles() -> None:
    walk = UnitWalk(wide(400))
    bundles = [walk.take() for _ in range(3)]
    assert [len(bundle) for bundle in bundles] == [25, 24, 22]

    walk.book(bundles[0], "dr" + "." * 23)
    smaller = walk.take()
    assert smaller == [2, 3, 4, 5, 6, 7]
    walk.book(bundles[1], "dr" + "." * 22)

    assert [walk.take() for _ in range(3)] == [[8], [9], [10]]
    walk.book(bundles[0], "dd" + "." * 23)
    assert walk.states.startswith("dd..")


def test_units_of_a_model_with_a_limit_leave_the_others_alone() -> None:
    walk = UnitWalk(wide(6).model_copy(update={"limited": [LimitedUnits(units=[0, 1, 2, 3], at_once=2)]}))

    assert [walk.take() for _ in range(5)] == [[0], [1], [4], [5], []]
    # A unit that waits for another plan or run keeps its turn: one question at a time is enough.
    assert walk.book([0], "c") == [0]
    assert walk.take() == []
    walk.book([1], "d")
    assert [walk.take(), walk.take()] == [[2], []]


def test_a_unit_in_trouble_is_tried_again_by_itself() -> None:
    walk = UnitWalk(wide(40))
    bundle = walk.take()
    assert len(bundle) == 3

    assert walk.book(bundle, "xxx") == bundle
    for unit in bundle:
        walk.release(unit)

    assert [walk.take() for _ in range(3)] == [[0], [1], [2]]


def wide(count: int) -> UnitGraph:
    return UnitGraph(kinds="e" * count, dependencies=[[] for _ in range(count)])
