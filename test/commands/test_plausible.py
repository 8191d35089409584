"""Volumes that no brain has are told, and no others."""

import pytest

from computation.commands.plausible import implausible

GWM = ("background", "white matter", "grey matter")
VIEW = (160.0, 210.0, 165.0)


@pytest.mark.parametrize(("white", "grey"), [(583, 946), (477, 733), (150, 350), (900, 1200)])
def test_brains_are_not_told(white, grey):
    assert implausible(GWM, (9000, white, grey), VIEW) == ()


def test_a_skull_taken_for_brain_is_told():
    texts = implausible(GWM, (9000, 1400, 1700), VIEW)
    assert [text.split(",")[0] for text in texts] == [
        "1.40 litres of white matter",
        "1.70 litres of grey matter",
        "3.10 litres of grey and white matter together",
    ]
    assert "have 0.15 to 0.95" in texts[0]


def test_next_to_nothing_is_told():
    assert len(implausible(GWM, (9000, 20, 30), VIEW)) == 3


def test_names_of_other_label_sets_are_understood():
    names = ("background", "Left-Cerebral-White-Matter", "Cerebellum-White-Matter", "ctx-lh-insula", "Cerebral-Cortex")
    assert implausible(names, (0, 450, 30, 10, 600), VIEW) == ()
    assert len(implausible(names, (0, 950, 30, 10, 600), VIEW)) == 1
    assert len(implausible(("background", "Gray matter", "White Matter"), (0, 1300, 500), VIEW)) == 1


@pytest.mark.parametrize(
    ("names", "view"),
    [
        (("background", "Hippocampus"), VIEW),
        (("background", "ctx-insula"), VIEW),
        (("background", "class 1", "class 2"), VIEW),
        (GWM, (160.0, 210.0, 60.0)),
    ],
)
def test_what_cannot_be_judged_is_not_told(names, view):
    assert implausible(names, [0] * len(names), view) == ()
