"""Whether the service is alive; it says nothing of what it holds."""

from __future__ import annotations

from service.web.operations import Call, Operation, Reply, ref

__all__ = ["OPERATIONS"]


def alive(call: Call) -> Reply:
    """Answer."""
    return Reply({"status": "ok"})


def ready(call: Call) -> Reply:
    """Answer if the store does, too."""
    call.served.desk.store.active("", 1)
    return Reply({"status": "ready"})


OPERATIONS = (
    Operation("GET", "/healthz", "alive", "Whether the process answers.", alive, {200: ref("Health")}, open=True),
    Operation("GET", "/readyz", "ready", "Whether its store answers, too.", ready, {200: ref("Health")}, open=True),
)
