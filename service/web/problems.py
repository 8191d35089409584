"""What goes wrong, as RFC 9457's problem documents with the status that fits."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from computation.errors import IdentityError, MeshNetError, ServiceError
from service.protocol import Conflict, Forbidden, Gone, Malformed, Refusal, TooLarge, TooMany, Unknown, canonical

__all__ = ["MEDIA_TYPE", "Problem", "from_error", "response"]

MEDIA_TYPE = "application/problem+json"

_STATUSES: Mapping[type[Refusal], int] = {
    Unknown: 404, Forbidden: 403, Conflict: 409, Gone: 410, TooLarge: 413, Malformed: 422, TooMany: 429,
}  # fmt: skip
#: Seconds after which it is worth trying again, where nothing else is known.
_BUSY, _BROKEN = 1, 5


class Problem(ServiceError):
    """A request that does not reach a case: the web's own refusals.

    Parameters
    ----------
    status : int
        HTTP's.
    code : str
        One word for programs.
    public : str
        What was seen, what was wanted, what to do.
    detail, headers : mapping
        More for programs; more headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        public: str,
        detail: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(public)
        self.status, self.code, self.detail, self.headers = status, code, dict(detail or {}), dict(headers or {})


def from_error(error: Exception) -> Problem:
    """Return what may be told of an exception: of one that nobody foresaw, nothing."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, IdentityError):
        return Problem(401, "unauthorised", error.public, headers={"WWW-Authenticate": "Bearer"})
    if isinstance(error, Refusal):
        status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
        wait = {"Retry-After": str(error.detail.get("wait", _BUSY))} if status == 429 else {}
        return Problem(status, error.code, error.public, error.detail, wait)
    if isinstance(error, ServiceError):
        return Problem(503, "unavailable", error.public, headers={"Retry-After": str(_BROKEN)})
    text = error.public if isinstance(error, MeshNetError) else "the service failed; its log says more under this id"
    return Problem(500, "failed", text)


def response(problem: Problem, request: str) -> Response:
    """Return the answer that tells of a problem; `request` is the request's id."""
    document = {
        "type": f"urn:coinstac-meshnet:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.public,
        "code": problem.code,
        "request": request,
        "details": problem.detail,
    }
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(canonical(document), problem.status, headers, MEDIA_TYPE)
