"""What Terraform itself says of the module, without any cloud; the rules are in infrastructure/tests/."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_files_are_formatted_and_valid(terraform):
    assert terraform.run("fmt", "-check", "-recursive").stdout == ""
    assert "Success!" in terraform.run("validate").stdout


def test_rules_hold(terraform):
    said = terraform.run("test").stdout
    assert re.search(r"Success! (\d+) passed, 0 failed", said), said


def test_every_variable_of_a_function_is_read_by_the_code():
    given = set(re.findall(r"^\s+(MESHNET_[A-Z]+)\s+=", (ROOT / "infrastructure/functions.tf").read_text(), re.M))
    assert given == set(re.findall(r'"(MESHNET_[A-Z]+)"', (ROOT / "service" / "aws.py").read_text()))


def test_every_page_has_a_way_through_the_gateway_and_there_is_none_without_a_page():
    for name in ("jinja2", "jwt", "starlette"):
        pytest.importorskip(name, reason="THE GATEWAY'S PAGES ARE NOT TESTED: the extra `service` is not installed")
    from service.identity.hosted import Hosted
    from service.web.dashboard import Front, routes

    listed = set(re.findall(r'^    "((?:GET|POST) /[^"]*)",$', (ROOT / "infrastructure" / "api.tf").read_text(), re.M))
    pages = [route for route in routes(Front(None, Hosted(None, None, None, None))) if route.path != "/{rest:path}"]
    ways = {f"{verb} {_way(route.path)}" for route in pages for verb in route.methods - {"HEAD"}}
    # Whoever goes to the address of the logout is sent on by the app alone.
    assert ways - {"GET /logout"} == listed


def _way(path):
    """Return what leads to a page: all that lies under a folder has one way."""
    return re.sub(r"^(/[a-z]+)/.*", r"\1/{path+}", path) if "{" in path or path.startswith("/runs/") else path


def test_nothing_of_an_account_lies_in_the_module():
    for path in (ROOT / "infrastructure").rglob("*"):
        assert path.suffix not in (".tfstate", ".tfvars", ".zip") or ".terraform" in path.parts, path.name
