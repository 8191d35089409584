"""What Terraform itself says of the module, without any cloud; the rules are in infrastructure/tests/."""

import re
from pathlib import Path

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


def test_nothing_of_an_account_lies_in_the_module():
    for path in (ROOT / "infrastructure").rglob("*"):
        assert path.suffix not in (".tfstate", ".tfvars", ".zip") or ".terraform" in path.parts, path.name
