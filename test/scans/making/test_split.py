"""People, not scans, are divided; sizes follow the fractions; the seed decides who goes where."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import ImportScanError
from computation.scans.making import split
from computation.scans.making.split import Fractions

PEOPLE = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=60)


@settings(deadline=None)
@given(PEOPLE, st.integers(0, 99))
def test_everyone_is_in_one_part_and_sizes_are_off_by_less_than_one(people, seed):
    parts = split.assign(people, Fractions(0.6, 0.3, 0.1), seed)
    assert set(parts) == set(people)
    sizes = Counter(parts.values())
    for name, fraction in (("train", 0.6), ("valid", 0.3), ("test", 0.1)):
        assert abs(sizes[name] - fraction * len(set(people))) < 1


@settings(deadline=None)
@given(PEOPLE, st.integers(0, 99), st.randoms())
def test_the_order_and_repetition_of_people_do_not_matter(people, seed, chance):
    shuffled = people * 2
    chance.shuffle(shuffled)
    assert split.assign(people, Fractions(), seed) == split.assign(shuffled, Fractions(), seed)


def test_the_seed_decides():
    people = [f"p{index}" for index in range(30)]
    assert split.assign(people, Fractions(), 1) == split.assign(people, Fractions(), 1)
    assert split.assign(people, Fractions(), 1) != split.assign(people, Fractions(), 2)


def test_ten_people_at_seven_two_one():
    sizes = Counter(split.assign(map(str, range(10)), Fractions(), 0).values())
    assert sizes == {"train": 7, "valid": 2, "test": 1}


@pytest.mark.parametrize("parts", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_do_not_add_up_are_refused(parts):
    with pytest.raises(ImportScanError, match="must be at least 0 and sum to 1"):
        Fractions(*parts)


def test_a_table_may_state_the_split():
    rows = [("a", "train"), ("b", "test"), ("a", "train")]
    assert split.given(rows) == {"a": "train", "b": "test"}


def test_a_person_in_two_parts_is_refused_without_being_named_in_public():
    with pytest.raises(ImportScanError, match="one person's scans are in both train and test") as caught:
        split.given([("anna", "train"), ("anna", "test")])
    assert "anna" not in caught.value.public and "anna" in caught.value.private


def test_another_name_for_a_part_is_refused():
    with pytest.raises(ImportScanError, match="split column holds 'training'; wanted one of train, valid, test"):
        split.given([("a", "training")])
