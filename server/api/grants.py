"""Grants: who may do what, and where; and what the caller may."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from server.access import Access, require
from server.api.answers import problems
from server.api.dependencies import Anyone, Manager
from server.grants import KnownGrants, add_grant, grants_of, remove_grant
from tcloud.wire.grants import Action, Grant, GrantRequest, Permissions

__all__ = ["router"]

router = APIRouter(tags=["grants"])


@router.get("/grants", summary="The grants of the project")
def grants(access: Manager, identity_id: str | None = None) -> list[Grant]:
    """By identity and age. `actions` has what a role is a name for, too."""
    with access.database.transaction(access.project) as transaction:
        return grants_of(transaction, identity_id)


@router.post(
    "/grants",
    status_code=201,
    summary="Grant something",
    responses={200: {"model": Grant, "description": "It is granted already, and left as it is."}},
)
async def add(
    body: GrantRequest,
    request: Request,
    response: Response,
    access: Annotated[Access, Depends(require(Action.MANAGE, doing="grant.add"))],
) -> Grant:
    """A role, or actions, within environments and models. 404 also if nobody is called so (`TM-IDENTITY`)."""

    def added() -> tuple[Grant, bool]:
        with access.database.transaction(access.project) as transaction:
            return add_grant(transaction, body, access.identity_id)

    found, is_new = await run_in_threadpool(added)
    _known(request).forget()
    if not is_new:
        response.status_code = 200
    return found


@router.delete(
    "/grants/{grant_id}",
    summary="Take a grant back",
    responses=problems(s409="It is the settings' or the last administrator's (`TM-GRANT`)."),
)
async def remove(
    grant_id: str, request: Request, access: Annotated[Access, Depends(require(Action.MANAGE, doing="grant.remove"))]
) -> Grant:
    """It holds no longer when this answers, on other servers of the same database some seconds later."""

    def removed() -> Grant:
        with access.database.transaction(access.project) as transaction:
            return remove_grant(transaction, grant_id, access.identity_id)

    found = await run_in_threadpool(removed)
    _known(request).forget()
    return found


@router.get("/permissions", summary="What the caller may do")
def permissions(access: Anyone) -> Permissions:
    with access.database.transaction(access.project) as transaction:
        return Permissions(
            project=access.project.namespace,
            identity_id=access.identity_id,
            grants=grants_of(transaction, access.identity_id),
        )


def _known(request: Request) -> KnownGrants:
    known: KnownGrants = request.app.state.grants
    return known
