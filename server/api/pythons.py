"""Python environments: what was pinned, for executors; what an environment runs in, for people."""

from fastapi import APIRouter

from server.api.answers import problems
from server.api.dependencies import Anyone, ExecutorOnly, SeesEnvironment
from server.pythons import answered_request, keep_python, pinned_python, python_of, set_plan_python
from tcloud.wire.pythons import PinnedPython, PlanPython, PythonOfEnvironment

__all__ = ["router"]

router = APIRouter(tags=["python environments"])


@router.get("/environments/{name}/python", summary="What the models of an environment run in, and why")
def of_environment(name: str, access: SeesEnvironment) -> PythonOfEnvironment:
    with access.database.transaction(access.project) as transaction:
        return python_of(transaction, name)


@router.get("/python-environments/{key}", summary="A pinned set of Python packages")
def pinned(key: str, access: Anyone) -> PinnedPython:
    with access.database.transaction(access.project) as transaction:
        return pinned_python(transaction, key)


@router.get("/python-requests/{key}", summary="What a request for Python packages was resolved to")
def answer(key: str, access: ExecutorOnly) -> PinnedPython:
    with access.database.transaction(access.project) as transaction:
        return answered_request(transaction, key)


@router.put(
    "/python-requests/{key}",
    summary="Keep what a request for Python packages was resolved to",
    responses=problems(s422="The set is of another request (`TM-PYTHON`)."),
)
def keep(key: str, body: PinnedPython, access: ExecutorOnly) -> PinnedPython:
    """Answered with what is kept: the first answer to a request stays, so that all who ask for it have the same."""
    with access.database.transaction(access.project) as transaction:
        return keep_python(transaction, key, body)


@router.put("/plans/{plan_id}/python-environment", status_code=204, summary="Note which set a plan's models run in")
def of_plan(plan_id: str, body: PlanPython, access: ExecutorOnly) -> None:
    with access.database.transaction(access.project) as transaction:
        set_plan_python(transaction, plan_id, body)
