"""What a principal may be."""

import pytest

from service.identity.principal import ROLES, Principal


def test_a_principal_has_the_roles_that_exist_and_no_others():
    one = Principal("0193", frozenset({"site", "viewer"}))
    assert one.has("administrator", "site") and not one.has("administrator", "coordinator")
    assert Principal("0193", frozenset(ROLES)).has("viewer") and not Principal("0193", frozenset()).has(*ROLES)
    with pytest.raises(ValueError):
        Principal("0193", frozenset({"root"}))
    with pytest.raises(ValueError):
        Principal("", frozenset({"site"}))
