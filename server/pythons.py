"""Pinned sets of Python packages, and which environment runs in which."""

from collections.abc import Iterable

import orjson
from sqlalchemy import select, update

from server.database import Transaction
from server.documents import DocumentKind, find_document, get_document, put_document, put_first
from server.environments import planned_with, summary_of
from server.errors import ApiError
from server.executors import known_executors
from server.schema import plans
from tcloud.wire.pythons import PinnedPython, PlanPython, PythonOfEnvironment, Requirement
from tempomesh_runner.requirements import asking_models

__all__ = ["answered_request", "keep_python", "pinned_python", "python_of", "pythons_of_plans", "set_plan_python"]


def keep_python(transaction: Transaction, request_key: str, pinned: PinnedPython) -> PinnedPython:
    """Keeps what a request was resolved to, and returns what is kept: the first answer to a request stays.

    Raises:
        ApiError: 422 if the set is of another request.
    """
    if pinned.request.key != request_key:
        raise ApiError(422, "TM-PYTHON", f"The set is of request '{pinned.request.key}'.")
    if put_first(transaction, DocumentKind.PYTHON_REQUEST, request_key, orjson.dumps(pinned.key)):
        put_document(transaction, DocumentKind.PYTHON, pinned.key, pinned.model_dump_json().encode())
        return pinned
    return answered_request(transaction, request_key)


def answered_request(transaction: Transaction, request_key: str) -> PinnedPython:
    """What a request was resolved to.

    Raises:
        ApiError: 404 if it never was.
    """
    key = orjson.loads(get_document(transaction, DocumentKind.PYTHON_REQUEST, request_key))
    return pinned_python(transaction, key)


def pinned_python(transaction: Transaction, key: str) -> PinnedPython:
    """A pinned set.

    Raises:
        ApiError: 404 if there is none of that key.
    """
    return PinnedPython.model_validate_json(get_document(transaction, DocumentKind.PYTHON, key))


def set_plan_python(transaction: Transaction, plan_id: str, python: PlanPython) -> None:
    """Notes which pinned set a plan's models run in; it stays so for the plan, and then for its environment.

    Raises:
        ApiError: 404 if there is no such plan or set.
    """
    pinned_python(transaction, python.key)
    put_document(transaction, DocumentKind.PYTHON_MODULES, python.key, orjson.dumps(python.modules))
    found = transaction.connection.execute(
        update(plans)
        .where(plans.c.project == transaction.project.namespace, plans.c.plan_id == plan_id)
        .values(python_environment=python.key)
        .returning(plans.c.plan_id)
    ).first()
    if found is None:
        raise ApiError(404, "TM-PLAN", f"There is no plan '{plan_id}' in {transaction.project.namespace}.")


def pythons_of_plans(transaction: Transaction, plan_ids: Iterable[str]) -> list[str]:
    """The keys of the sets that these plans' models run in."""
    keys = transaction.connection.execute(
        select(plans.c.python_environment).where(
            plans.c.project == transaction.project.namespace, plans.c.plan_id.in_(list(plan_ids))
        )
    ).scalars()
    return sorted({key for key in keys if key is not None})


def python_of(transaction: Transaction, environment: str) -> PythonOfEnvironment:
    """What the models of an environment run in, and which of them ask for what.

    Raises:
        ApiError: 404 if there is no environment of that name.
    """
    summary = summary_of(transaction, environment)
    shown = PythonOfEnvironment(environment=environment, plan_id=summary.plan_id)
    key = planned_with(transaction, summary).get("python_environment")
    document = find_document(transaction, DocumentKind.PYTHON, key) if key is not None else None
    if document is None:
        return shown
    pinned = PinnedPython.model_validate_json(document)
    asked = pinned.request.requirements
    asking = _asking(transaction, environment, asked, key)
    return shown.model_copy(
        update={
            "key": pinned.key,
            "python_version": pinned.request.python_version,
            "sqlmesh_version": pinned.request.sqlmesh_version,
            "platform": pinned.request.platform,
            "requirements": [
                Requirement(name=name, version=version, models=asking.get(name, []))
                for name, version in sorted(asked.items())
            ],
            "packages": pinned.packages,
            "executors": [
                executor.identity
                for executor in known_executors(transaction)
                if any(built.key == pinned.key for built in executor.pythons)
            ],
        }
    )


def _asking(
    transaction: Transaction, environment: str, packages: Iterable[str], key: str | None
) -> dict[str, list[str]]:
    stored = transaction.state.get_environment(environment)
    if stored is None or key is None:
        return {}
    snapshots = transaction.state.get_snapshots(stored.snapshots).values()
    modules = orjson.loads(find_document(transaction, DocumentKind.PYTHON_MODULES, key) or b"{}")
    return asking_models(snapshots, packages, modules)
