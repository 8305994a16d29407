"""Where rows lie, and which ranges of numbers hold a page or a change: on values only."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ckanext.bigquery_datastore.backend.search import pages
from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import layout
from ckanext.bigquery_datastore.backend.table.layout import Range
from ckanext.bigquery_datastore.backend.table.model import Column, Partitions, Table
from ckanext.bigquery_datastore.backend.table.types import TYPES

PARTITIONS = Partitions("_id", 1, 10_001, 100)


def table(**values: object) -> Table:
    columns = (Column("_id", TYPES["int8"], "_id"), Column("k", TYPES["text"], "k"))
    return replace(Table("p", "d", "t", columns, block="x"), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [0, 1, 20_000, 10_000_000, 10_000_000_000])
def test_a_table_is_made_of_few_partitions_and_has_room_to_grow(rows: int) -> None:
    made = layout.partitions(rows)
    assert rows <= layout.AT_FIRST * made.width
    # And no job can ever change more than 4,000, those outside of the ranges included.
    assert (made.end - made.start) / made.width + 2 == 4_000
    assert made.end > 5 * rows
    assert layout.fits(made, rows)


@pytest.mark.parametrize(
    ("found", "rows", "fits"),
    [
        (None, 5, False),
        (layout.partitions(0), 30_000_000, True),
        (layout.partitions(0), 50_000_000, False),  # 3,600 changes of a day's 30,000
        (layout.partitions(500_000_000), 100_000_000, False),
        (layout.partitions(50_000_000), 20_000_000, True),
        (replace(layout.partitions(0), column="year"), 5, False),
    ],
)
def test_partitions_stay_while_they_serve(found: Partitions | None, rows: int, fits: bool) -> None:
    assert layout.fits(found, rows) is fits


def test_ranges_hold_all_numbers_and_few_partitions() -> None:
    found = layout.ranges([5, 7, 95, 101, 950, 12_345, 20_000, -4], PARTITIONS)
    assert found == [Range(-4, 101), Range(950, 950), Range(12_345, 20_000)]
    assert layout.within("t", found[1:]) == (
        "(t.`_id` BETWEEN 950 AND 950 OR t.`_id` BETWEEN 12345 AND 20000)"
    )
    assert layout.within("t", []) == "FALSE"


def test_a_thousand_scattered_numbers_are_a_hundred_ranges() -> None:
    chosen = random.Random(7)
    numbers = sorted(chosen.sample(range(1, 10**9), 1_000))
    found = layout.ranges(numbers, Partitions("_id", 1, 10**9, 10_000))
    assert len(found) == layout.MOST_RANGES
    assert all(any(one.first <= number <= one.last for one in found) for number in numbers)
    assert all(one.last < other.first for one, other in zip(found, found[1:]))  # noqa: B905, RUF007


def rows_of(select: object, numbers: list[int]) -> list[int]:
    """What a page of a table with these numbers gives, as BigQuery would answer it."""
    where = select.where[0] if select.where else ""  # type: ignore[attr-defined]
    first, last = 0, 10**9
    words = where.replace("(", "").replace(")", "").split()
    if "BETWEEN" in words:
        first, last = int(words[2]), int(words[4])
    elif ">=" in words:
        first = int(words[2])
    elif words:
        assert words == ["FALSE"]
        last = -1
    is_descending = select.order_by[0].descending  # type: ignore[attr-defined]
    found = sorted((n for n in numbers if first <= n <= last), reverse=is_descending)
    start = select.offset  # type: ignore[attr-defined]
    return found[start : start + select.limit]  # type: ignore[attr-defined]


@pytest.mark.parametrize("gaps", [0.0, 0.02, 0.9])
@pytest.mark.parametrize("order", ["_id", "_id desc"])
def test_a_page_by_numbers_is_the_page_by_offset(gaps: float, order: str) -> None:
    chosen = random.Random(gaps)
    numbers = [n for n in range(1, 3_001) if chosen.random() >= gaps]
    counted = [
        pages.Counted(Range(min(part), max(part)), len(part))
        for place in range(31)
        if (part := [n for n in numbers if PARTITIONS.place(n) == place])
    ]
    found = table(num_rows=len(numbers), last_id=3_000, partitions=PARTITIONS)
    for _ in range(200):
        offset, limit = chosen.randrange(len(numbers) + 50), chosen.randrange(1, 500)
        select = build(found, {"sort": order, "offset": offset, "limit": limit})
        assert pages.is_by_number(select)
        page = pages.page(select, counted)
        assert rows_of(page, numbers) == rows_of(select, numbers)
        if gaps == 0 and offset < len(numbers):
            assert page.offset == 0
        if order == "_id" or offset == 0:
            # Rows that were added a moment ago are there.
            more = [*numbers, 3_001, 3_002]
            assert rows_of(page, more) == rows_of(select, more)


def test_a_table_without_a_gap_is_known_to_be_one() -> None:
    full = table(num_rows=10, last_id=10)
    assert pages.dense(full) == [pages.Counted(Range(1, 10), 10)]
    assert pages.dense(replace(full, last_id=12)) is None
    # Numbers from before any were reserved may be anything.
    assert pages.dense(replace(full, block="")) is None


@pytest.mark.parametrize(
    "params", [{"q": "x"}, {"sort": "k"}, {"filters": {"k": "a"}}, {"distinct": True}]
)
def test_other_searches_are_no_pages_by_number(params: dict[str, object]) -> None:
    assert not pages.is_by_number(build(table(), {"limit": 10, **params}))
