"""What keeps others' pages from acting for somebody who has logged in here."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from service.protocol import Forbidden

__all__ = [
    "HEADERS",
    "POLICY",
    "cookie_name",
    "expect_own_page",
    "forget_cookie",
    "give_cookie",
    "inside",
    "is_own_page",
    "is_stamped",
    "stamp",
]

#: Nothing from elsewhere, nothing inline, and no text that becomes a script or markup by itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def cookie_name(name: str, secure: bool) -> str:
    """Return a cookie's name; by TLS one that no other host and no plain connection can set."""
    return f"__Host-{name}" if secure else f"meshnet-{name}"


def give_cookie(response: Response, name: str, value: str, secure: bool, seconds: int) -> None:
    """Give the browser a cookie that no script reads and no other site sends with a form."""
    response.set_cookie(
        cookie_name(name, secure), value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax"
    )


def forget_cookie(response: Response, name: str, secure: bool) -> None:
    """Let the browser forget a cookie."""
    response.delete_cookie(cookie_name(name, secure), path="/", secure=secure, httponly=True, samesite="lax")


def stamp(secret: str) -> str:
    """Return what a form carries to show that its page was made for the holder of a secret cookie."""
    return hmac.new(secret.encode(), b"form", hashlib.sha256).hexdigest()


def expect_own_page(request: Request, secret: str, given: str) -> None:
    """Refuse a form that no page of this service sent.

    Raises
    ------
    Forbidden
        If the browser says that it comes from elsewhere, or it lacks the stamp of the page's cookie.
    """
    if _is_own(request) is False or not is_stamped(secret, given):
        raise Forbidden("form", "the form is old or came from elsewhere; go back, load the page again, and send it")


def is_stamped(secret: str, given: str) -> bool:
    """Tell whether a form's stamp is that of a secret cookie."""
    return bool(secret) and hmac.compare_digest(stamp(secret).encode(), given.encode("utf-8", "replace"))


def is_own_page(request: Request) -> bool:
    """Tell whether the browser says that a form comes from a page of this service, whatever its stamp is."""
    return _is_own(request) is True


def _is_own(request: Request) -> bool | None:
    """Tell whether a form comes from a page of this service; None where the browser does not say."""
    # What a proxy makes of the host does not matter to a browser that says by itself where a form comes from.
    kind, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    if kind:
        return None if kind == "none" else kind == "same-origin"
    try:
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower() if origin else None
    except ValueError:  # no URL at all
        return False


def inside(path: str) -> str:
    """Return a path of this service to go on with, whatever was asked for: the start page if it leads elsewhere."""
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"
