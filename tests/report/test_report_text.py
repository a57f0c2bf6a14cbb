"""Foreign text is shown, never obeyed; numbers read as a reader wants them."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.report.format import cut, duration, number, percent, points, size
from open_rs.report.load import presentable
from open_rs.report.page import safe_json


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), st.text() | st.none() | st.integers(), max_size=4))
def test_safe_json_means_the_same_and_holds_nothing_that_html_reads(value: object) -> None:
    text = str(safe_json(value))
    assert not set(text) & set("<>&\u2028\u2029") and text.isascii()
    assert json.loads(text) == value


def test_presentable_enters_everything_and_drops_numbers_that_are_not_finite() -> None:
    value = {"a\x1b": [float("nan"), float("inf"), 1.5, True, None], "b": {"c": "x\u202e"}}
    assert presentable(value) == {"a␛": [None, None, 1.5, True, None], "b": {"c": "x<U+202E>"}}


def test_cut_says_how_much_is_gone() -> None:
    assert cut("abcdef", 6) == "abcdef"
    # 3 of 4 characters from the beginning, 1 from the end; 10 - 4 = 6 between them
    assert cut("abcdefghij", 4) == "abc … [6 characters left out] … j"


def test_numbers() -> None:
    assert [percent(0.4125), percent(None), percent(-0.01)] == ["41.2 %", "–", "−1.0 %"]
    assert [points(0.23), points(-0.005), points(-0.0001)] == ["+23.0", "−0.5", "0.0"]
    assert [number(0.00012345), number(1234.5), number(-2.0)] == ["0.0001234", "1,234", "−2"]
    # 59.6 s rounds up to a minute; 7,530 s = 2 h 5 min 30 s, half a minute rounds to even
    assert [duration(4.21), duration(59.6), duration(200)] == ["4.2 s", "1 min 00 s", "3 min 20 s"]
    assert [duration(7500), duration(3599.9)] == ["2 h 05 min", "1 h 00 min"]
    assert [size(512), size(1536), size(3 * 2**20), size(5 * 2**30)] == [
        "512 B",
        "1.5 KiB",
        "3 MiB",
        "5 GiB",
    ]
