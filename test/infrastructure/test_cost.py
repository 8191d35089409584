"""The table of costs: it is what the page shows, and grows as it must."""

from dataclasses import replace
from pathlib import Path

from infrastructure import cost
from infrastructure.cost import Course

PAGE = Path(__file__).parents[2] / "docs" / "service-aws.md"


def test_the_page_shows_what_is_computed(capsys):
    cost.main([])
    printed = capsys.readouterr().out
    page = PAGE.read_text(encoding="utf-8")
    assert all(line in page for line in printed.splitlines() if line)


def test_everything_that_is_asked_for_has_a_price():
    course = Course(4, 300, 20, 23)
    assert set(cost.asked(course)) <= set(cost.PRICES)
    assert 0 < cost.run(course) < 50


def test_more_of_anything_costs_more():
    course = Course(4, 300, 20, 23)
    for name in ("sites", "rounds", "seconds", "kilobytes"):
        assert cost.run(replace(course, **{name: 2 * getattr(course, name)})) > cost.run(course)


def test_the_first_step_by_hand():
    one = cost.asked(Course(1, -2, 0, 1e6))  # one step
    assert one["gateway request"] == 13
    assert one["function call"] == 13 + 1 + 1
    assert one["GB out"] == 1
