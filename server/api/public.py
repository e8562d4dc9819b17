"""The public API, `v1`: for tools that mirror runs elsewhere; it only reads."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from server.api.dependencies import SeesEnvironment, SeesRecord
from server.evaluations import EvaluationFilter, evaluations_of, found_evaluations, one_evaluation
from server.public.dags import dag_of
from server.public.evaluations import public_evaluation, public_run
from server.public.links import Links
from server.public.shapes import PublicDag, PublicEvaluation, PublicRun
from server.runs import RunFilter, one_run, runs_of
from tcloud.wire.executions import OwnerKind

__all__ = ["router"]


router = APIRouter(tags=["public"])

Limit = Annotated[int, Query(ge=1, le=1000)]
_ALL = 100_000


def _links(request: Request) -> Links:
    org, project = request.path_params["org"], request.path_params["project"]
    return Links(f"{str(request.base_url).rstrip('/')}/sqlmesh/{org}/{project}")


Addresses = Annotated[Links, Depends(_links)]


@router.get("/v1/dags/{environment}", summary="The models of an environment as a graph")
def dag(environment: str, request: Request, access: SeesEnvironment, links: Addresses) -> PublicDag:
    with access.database.transaction(access.project) as transaction:
        return dag_of(transaction, request.app.state.crons, environment, links)


@router.get("/v1/runs", summary="Runs")
def runs(
    access: SeesRecord,
    links: Addresses,
    environment: str | None = None,
    last: bool = False,
    since_run_id: str | None = None,
    sort: Literal["asc", "desc"] = "desc",
    limit: Limit = 100,
) -> list[PublicRun]:
    """The newest `limit` of them, or, with `last`, the newest one; `sort` is the order in which they are given."""
    access.see(environment)
    wanted = RunFilter(environment=environment, after=since_run_id, within=access.visible)
    with access.database.transaction(access.project) as transaction:
        found = runs_of(transaction, wanted, 1 if last else limit)
    return [public_run(run, links) for run in (found if sort == "desc" else reversed(found))]


@router.get("/v1/runs/{run_id}", summary="One run")
def run(run_id: str, access: SeesRecord, links: Addresses) -> PublicRun:
    with access.database.transaction(access.project) as transaction:
        found = one_run(transaction, run_id)
    access.see(found.environment)
    return public_run(found, links)


@router.get("/v1/runs/{run_id}/evaluations", summary="A run's evaluations")
def run_evaluations(
    run_id: str, access: SeesRecord, links: Addresses, node_name: str | None = None
) -> list[PublicEvaluation]:
    """`node_name` is the name of a node of the graph."""
    with access.database.transaction(access.project) as transaction:
        found = one_run(transaction, run_id)
        access.see(found.environment)
        listed = evaluations_of(transaction, OwnerKind.RUN, run_id, is_over=found.status.is_final, model=node_name)
    return [public_evaluation(evaluation, links, found.environment) for evaluation in listed]


@router.get("/v1/evaluations", summary="Evaluations of runs and plans")
def evaluations(
    access: SeesRecord,
    links: Addresses,
    run_id: str | None = None,
    plan_id: str | None = None,
    environment: str | None = None,
    latest: bool = False,
    node_name: str | None = None,
    sort: Literal["asc", "desc"] = "asc",
    limit: Limit | None = None,
) -> list[PublicEvaluation]:
    """With `latest` only the newest one of each model. Without a limit all that match."""
    access.see(environment)
    wanted = EvaluationFilter(
        run_id=run_id,
        plan_id=plan_id,
        environment=environment,
        model=node_name,
        is_latest=latest,
        within=access.visible,
    )
    with access.database.transaction(access.project) as transaction:
        found = found_evaluations(transaction, wanted, newest_first=sort == "desc", limit=limit or _ALL)
    return [public_evaluation(evaluation, links, evaluation.environment or "") for evaluation in found]


@router.get("/v1/evaluations/{evaluation_id}", summary="One evaluation")
def evaluation(evaluation_id: str, access: SeesRecord, links: Addresses) -> PublicEvaluation:
    with access.database.transaction(access.project) as transaction:
        found = one_evaluation(transaction, evaluation_id)
    access.see(found.environment)
    return public_evaluation(found, links, found.environment or "")
