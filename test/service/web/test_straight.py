"""The short way to an endpoint leads where Starlette's leads, and nowhere else."""

import pytest
from starlette.routing import Match, Route

from service.web.straight import Straight


@pytest.fixture
def straight(house):
    return Straight(house.app, house.app.routes)


def scope(path, method="GET", **rest):
    return {"type": "http", "path": path, "method": method, "headers": [], **rest}


def starlettes(house, asked):
    """Return the first route that fits, and what its names stand for."""
    for route in house.app.routes:
        match, found = route.matches(asked)
        if match is Match.FULL:
            return route, found["path_params"]
    return None


def test_every_path_and_verb_leads_to_the_same_endpoint(house, straight):
    routes = [route for route in house.app.routes if isinstance(route, Route) and ":" not in route.path]
    assert len(routes) > 30
    for route in routes:
        path = route.path.replace("{run}", "a b").replace("{", "").replace("}", "")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            asked = scope(path, method)
            wanted = starlettes(house, asked)
            assert straight._found(asked) == wanted, (path, method)
            assert (wanted is not None) is (method in route.methods)


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/v1", "/v1/", "/v1/runs/", "/v1/runs//round", "/v1/runs/x/round/", "/v1/runs/x/y/z", "/v1/me\n",
     "v1/me", "/v1/blobs/runs/x", "/V1/me", "/v1/runs/x/rounds//result"],
)  # fmt: skip
def test_what_is_no_path_of_an_operation_goes_the_long_way(straight, path):
    assert straight._found(scope(path)) is None


def test_below_another_path_the_long_way_is_taken(house, straight):
    calls = []

    async def app(scope, receive, send):
        calls.append(scope["type"])

    straight._app = app
    for asked in (scope("/v1/me", root_path="/below"), {"type": "lifespan"}):
        with pytest.raises(StopIteration):
            straight(asked, None, None).send(None)
    assert calls == ["http", "lifespan"]
