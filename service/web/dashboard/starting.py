"""A draft's form for the trained model that the run is to start from."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import BaseRoute

from service.cases import coordinator
from service.cases.starting import MOST
from service.protocol import Refusal
from service.web.dashboard.asking import Ask, go, page, render, status_of
from service.web.dashboard.front import Front
from service.web.dashboard.runs import overview, starting_model

__all__ = ["routes"]

#: Bytes of the form: the largest model, its JSON, and what is around them.
_MOST_FORM = MOST + 2**20 + 2**16


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    makers = ("coordinator", "administrator")
    return [page(front, "/runs/{run}/model", _back, *makers, form=_upload, most=_MOST_FORM)]


def _back(ask: Ask) -> Response:
    return go(f"/runs/{ask.path('run')}")


def _upload(ask: Ask) -> Response:
    run, files = ask.path("run"), ask.files
    try:
        coordinator.start_from(ask.desk, ask.who, run, files.get("card", b""), files.get("tensors", b""))
    except Refusal as error:
        values = overview(ask)
        if values["run"].state != "draft":
            raise
        told = {**values, **starting_model(ask, values["run"])}
        return render(ask, "draft.html", status_of(error), **told, problem=error.public)
    return go(f"/runs/{run}", done="model")
