"""`tcloud auth`: who this machine is for the server."""

import json
from datetime import UTC, datetime
from typing import Any

import click
import httpx

from tcloud.api.proxies import goes_through_proxies
from tcloud.commands.access import project_name
from tcloud.credentials import PUBLIC_CLIENT, ClientCredentials, FixedToken, SignedIn, SignInError, credentials_of
from tcloud.errors import InvalidError, NotAllowedError, NotReachableError
from tcloud.output import Format, output_option, show
from tcloud.settings import Settings, load
from tcloud.token_store import Tokens

__all__ = ["auth"]


@click.group()
def auth() -> None:
    """Sign in at the server of a project, and out again."""


@auth.command()
@click.option("--device", is_flag=True, help="With a browser on another machine: this one has none.")
def login(device: bool) -> None:
    """Sign in, in a browser."""
    from tcloud.signing_in import sign_in

    credentials = _person(load(project_name()))
    sign_in(credentials, with_device=device)
    click.echo(f"Signed in at {credentials.root}.")


@auth.command()
def logout() -> None:
    """Sign out: the server takes the tokens back, and this machine forgets them."""
    credentials = _person(load(project_name()))
    with credentials.store.locked():
        tokens = credentials.store.read()
        credentials.store.write(None)
    if tokens is None:
        click.echo(f"Not signed in at {credentials.root}.")
        return
    form = {"token": tokens.refresh_token or tokens.access_token, "client_id": tokens.client_id or PUBLIC_CLIENT}
    with _http(credentials) as http:
        try:
            http.post(credentials.token_url.rsplit("/", 1)[0] + "/revoke", data=form).raise_for_status()
        except httpx.HTTPError as error:
            raise NotReachableError(
                f"This machine has forgotten its tokens, and {credentials.root} could not be told: {error}."
            ) from error
    click.echo(f"Signed out of {credentials.root}.")


@auth.command()
def refresh() -> None:
    """Get new tokens now."""
    credentials = _person(load(project_name()))
    try:
        with _http(credentials) as http:
            tokens = credentials.refresh(http)
    except SignInError as error:
        raise NotReachableError(str(error)) from error
    except httpx.HTTPError as error:
        raise NotReachableError(f"Cannot reach {credentials.token_url}: {error}.") from error
    if tokens is None:
        raise NotAllowedError(f"Not signed in at {credentials.root} any more: run `tcloud auth login`.")
    click.echo(f"Signed in at {credentials.root}; this token is good until {_time(tokens.expires_at)}.")


@auth.command()
@output_option
def status(output: Format) -> None:
    """Show who this machine is for the server; exits with 3 if nobody has signed in."""
    settings = load(project_name())
    credentials = credentials_of(settings)
    told: dict[str, Any] = {"url": settings.url, "signed_in": True, "with": "TCLOUD_TOKEN or tcloud.yaml"}
    match credentials:
        case ClientCredentials():
            told |= {"with": "TCLOUD_CLIENT_ID and TCLOUD_CLIENT_SECRET", "identity": settings.client_id}
        case SignedIn():
            told |= {"with": "tcloud auth login", **_told(credentials.store.read())}
    show(told, output) if output is Format.TABLE else click.echo(json.dumps(told, indent=2))
    if not told["signed_in"]:
        raise click.exceptions.Exit(NotAllowedError.exit_code)


def _told(tokens: Tokens | None) -> dict[str, Any]:
    # An expired token is renewed with the next request.
    if tokens is None or (tokens.refresh_token is None and not tokens.is_fresh()):
        return {"signed_in": False}
    claims = _claims(tokens.id_token)
    return {
        "signed_in": True,
        "identity": claims.get("sub"),
        "name": claims.get("name"),
        "scope": str(claims.get("scope", "")).split(),
        "expires_at": _time(tokens.expires_at),
    }


def _claims(token: str) -> dict[str, Any]:
    """What a token says, to be shown: the server is who verifies it."""
    from joserfc import jws
    from joserfc.errors import JoseError

    try:
        found = json.loads(jws.extract_compact(token.encode()).payload)
    except (JoseError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _person(settings: Settings) -> SignedIn:
    credentials = credentials_of(settings)
    if isinstance(credentials, SignedIn):
        return credentials
    kind = "a token" if isinstance(credentials, FixedToken) else "a client's secret"
    raise InvalidError(f"{kind.capitalize()} is set for {settings.url}: unset it to sign in as a person.")


def _http(credentials: SignedIn) -> httpx.Client:
    return httpx.Client(timeout=30, trust_env=goes_through_proxies(credentials.root))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
