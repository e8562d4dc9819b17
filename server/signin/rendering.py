"""The pages of signing in, as HTML: without scripts, and without anything from elsewhere."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from server.signin.browser import FORM, cookie, form_token, set_cookie
from server.signin.clients import LOOPBACK
from server.signin.service import SignIn

__all__ = ["page"]

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "style.css").read_text()
_environment = Environment(
    loader=FileSystemLoader(_TEMPLATES), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
_environment.globals["style"] = Markup(_STYLE)  # noqa: S704 - a file of ours
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    # Browsers apply form-action to where a form's answer redirects, too: to the program on the person's machine.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    f"form-action 'self' http://{LOOPBACK}:*; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    # Not compressed: the length would tell of the form's token, next to what others can put on the page.
    "Content-Encoding": "identity",
}


def page(sign_in: SignIn, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """One page.

    Args:
        sign_in: What the server signs in with.
        request: What is answered.
        template: A file of `templates`, without its ending.
        status: HTTP status.
        values: What the template shows.
    """
    token = form_token(sign_in, request)
    html = _environment.get_template(f"{template}.html").render(form_token=token, **values)
    response = HTMLResponse(html, status_code=status, headers=_HEADERS)
    if cookie(sign_in, request, FORM) is None:
        set_cookie(sign_in, response, FORM, token)
    return response
