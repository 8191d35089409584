"""The API against its own description: schemathesis asks for everything, as each role and as nobody.

The long form asks for so many seconds: ``SCHEMATHESIS_SECONDS=600 pytest test/service/web/test_schemathesis.py``.
"""

import os
import time
from contextlib import suppress

import pytest
import schemathesis
from houses import SOUND, House
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from places import BARE, Plain
from schemathesis.specs.openapi import checks

from computation.errors import ServiceError
from service.store.sqlite import SqliteStore
from service.web import openapi
from service.web.routes import OPERATIONS

SECONDS = float(os.environ.get("SCHEMATHESIS_SECONDS", "0")) / len(OPERATIONS)
EXAMPLES = 100 if SECONDS else 8
#: What is asked is changed after it was made, so what it was made to show does not hold any more.
EXCLUDED = [
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
    checks.ignored_auth,
    checks.unsupported_method,
    checks.missing_required_header,
    checks.use_after_free,
    checks.ensure_resource_availability,
]


class World(House):
    """A service with a draft, a run whose sites are invited, one that has begun, and one that was aborted."""

    def __init__(self, folder):
        super().__init__(folder, SqliteStore(folder / "service.db"))
        carl = self.client("carl")
        runs = [carl.post("/v1/runs", self.spec(settings=BARE)).json() for _ in range(4)]
        for run in runs[1:]:
            carl.post(f"/v1/runs/{run['id']}/invite")
        for name in ("north", "south"):
            body = {"consent": runs[2]["digest"], "message": Plain(self.desk, name, runs[2]["id"]).joins()}
            assert self.client(name).post(f"/v1/runs/{runs[2]['id']}/accept", body).status_code == 201
        carl.post(f"/v1/runs/{runs[3]['id']}/abort")
        path = f"/v1/accounts/{self.subjects['north']}/credentials"
        credential = self.client("ada").post(path, {"label": "x"}).json()["id"]
        self.real = {
            "run": st.sampled_from([run["id"] for run in runs]), "number": st.integers(0, 3),
            "subject": st.sampled_from(list(self.subjects.values())), "site": st.sampled_from(["north", "south"]),
            "credential": st.just(credential),
        }  # fmt: skip

    def token(self, name):
        """Return somebody's token, a new one where the last one was taken away."""
        try:
            self.local.verify(self.tokens[name])
        except ServiceError:
            with suppress(ServiceError):  # what was asked before may have disabled the account
                self.tokens[name] = self.local.login(name, SOUND).access
        return self.tokens[name]

    def close(self):
        self.desk.store.close()
        super().close()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("asked", OPERATIONS, ids=lambda one: one.name)
@pytest.mark.timeout(1200)
def test_nothing_is_answered_that_is_not_described(world, asked):
    schema = schemathesis.openapi.from_asgi(openapi.PATH, world.app)
    found = (one.ok() for one in schema.get_all_operations())
    operation = next(one for one in found if one.definition.raw["operationId"] == asked.name)
    cases = operation.as_strategy(schemathesis.GenerationMode.POSITIVE)
    if asked.parameters or asked.body or "{" in asked.path:
        cases |= operation.as_strategy(schemathesis.GenerationMode.NEGATIVE)
    people = st.sampled_from(["", "nonsense", *world.subjects])

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if SECONDS else [Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(cases, people, st.fixed_dictionaries(world.real), st.booleans())
    def ask(case, who, real, found):
        token = world.token(who) if who in world.subjects else who
        case.headers = {**(case.headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        if found:
            case.path_parameters = {key: real[key] for key in case.path_parameters or {}}
        if case.query:
            case.query.pop("wait", None)
        assert case.call_and_validate(excluded_checks=EXCLUDED).status_code < 500

    until = time.monotonic() + SECONDS
    ask()
    while time.monotonic() < until:
        ask()
