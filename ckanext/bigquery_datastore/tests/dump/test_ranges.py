"""Which bytes a visitor asks for, as RFC 9110 has it."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange, parse_range, range_applies

WHOLE = {"Accept-Ranges": "bytes", "Content-Length": "1000"}


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-499", 0, 499),
        ("bytes=500-", 500, 999),
        ("bytes=500-5000", 500, 999),
        ("bytes=-1", 999, 999),
        ("bytes=-5000", 0, 999),
        ("bytes=999-", 999, 999),
        (" Bytes = 1-2 ", 1, 2),
    ],
)
def test_one_range_is_answered_with_206(header: str, first: int, last: int) -> None:
    answer = parse_range(header, 1000)
    assert (answer.status, answer.span) == (206, ByteRange(first, last))
    assert answer.headers == {
        "Accept-Ranges": "bytes",
        "Content-Length": str(last - first + 1),
        "Content-Range": f"bytes {first}-{last}/1000",
    }


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=٣-٤",
        "items=0-1",
        "bytes=0-1,5-6",
        "bytes=0-1, -1",
        "bytes=1-2-3",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole_file(header: str | None) -> None:
    answer = parse_range(header, 1000)
    assert (answer.status, answer.span, answer.headers) == (200, None, WHOLE)


@pytest.mark.parametrize(
    ("header", "length"),
    [("bytes=1000-", 1000), ("bytes=1000-2000", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)],
)
def test_a_range_behind_the_end_is_answered_with_416(header: str, length: int) -> None:
    answer = parse_range(header, length)
    assert (answer.status, answer.span) == (416, None)
    assert answer.headers["Content-Range"] == f"bytes */{length}"


@given(first=st.integers(0, 2000), last=st.integers(0, 2000), length=st.integers(1, 1500))
def test_a_range_names_the_bytes_that_a_slice_of_the_file_has(
    first: int, last: int, length: int
) -> None:
    answer = parse_range(f"bytes={first}-{last}", length)
    places = range(length)[first : last + 1]
    if last < first:
        assert answer.status == 200
    elif not places:
        assert answer.status == 416
    else:
        assert answer.span == ByteRange(places[0], places[-1])


MODIFIED = datetime(2026, 8, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ("", True),
        ('"abc"', True),
        ('"abd"', False),
        ('W/"abc"', False),
        ("Sat, 01 Aug 2026 12:00:00 GMT", True),
        ("Sat, 01 Aug 2026 12:00:01 GMT", False),
        ("Sat, 01 Aug 2026 11:59:59 GMT", False),
        ("the other day", False),
    ],
)
def test_if_range_decides_whether_the_range_counts(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, '"abc"', MODIFIED) is applies


def test_if_range_never_matches_a_file_that_has_neither_tag_nor_date() -> None:
    assert not range_applies('"abc"', None, None)
    assert not range_applies("Sat, 01 Aug 2026 12:00:00 GMT", None, None)


def test_a_weak_tag_does_not_match_itself() -> None:
    assert not range_applies('W/"abc"', 'W/"abc"', None)
