"""Whatever a string holds, it comes out of the page as text."""

import doctest
import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from computation.report import markup
from computation.report.markup import element, text


def test_examples():
    assert doctest.testmod(markup).failed == 0


@settings(deadline=None)
@given(foreign=st.text(), attribute=st.text())
def test_foreign_text_is_content_and_never_structure(foreign, attribute):
    parsed = ET.fromstring(element("p", foreign, title=attribute))
    assert parsed.tag == "p"
    assert len(parsed) == 0
    assert set(parsed.attrib) == {"title"}
    shown = parsed.text or ""
    assert len(shown) == len(foreign)
    assert all(seen in (sent, "\ufffd") for seen, sent in zip(shown, foreign, strict=True))


def test_characters_that_hide_or_turn_text_are_shown_as_such():
    assert text("a\x00b\u202ec\u200bd\x1be") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert text("Größe – 脳 (mm³)") == "Größe – 脳 (mm³)"


def test_markup_is_not_escaped_twice_and_nothing_is_left_out():
    assert element("p", element("b", "1 < 2"), None, 0) == "<p><b>1 &lt; 2</b>0</p>"
    assert element("meta", charset="utf-8", name=None) == '<meta charset="utf-8" />'
