"""Nothing is deleted that a live signed URL may point to, and nothing else stays."""

import datetime as dt
from dataclasses import replace

from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.sweep import (
    ATTEMPT_LIFETIME,
    MARGIN,
    is_to_be_renewed,
    superfluous,
)

NOW = dt.datetime(2026, 1, 10, tzinfo=dt.timezone.utc)
LIFETIME = dt.timedelta(hours=1)
LONG_AGO = LIFETIME + MARGIN + dt.timedelta(seconds=1)


def stored(path: str, age: dt.timedelta, **metadata: str) -> StoredObject:
    return StoredObject(f"dumps/res/csv/{path}", 1, 1, NOW - age, metadata=metadata)


def renewed(found: StoredObject, age: dt.timedelta) -> StoredObject:
    return replace(found, renewed=NOW - age)


def swept(*objects: StoredObject) -> list[str]:
    return [o.name.removeprefix("dumps/res/csv/") for o in superfluous(objects, NOW, LIFETIME)]


def test_a_superseded_file_stays_while_a_url_for_it_may_live():
    old = stored("01/all-a/data.csv", dt.timedelta(days=3))
    assert swept(old, stored("02/all-a/data.csv", LIFETIME)) == []


def test_a_superseded_file_goes_once_no_url_for_it_can_live():
    old = stored("01/all-a/data.csv", dt.timedelta(days=3))
    assert swept(old, stored("02/all-a/data.csv", LONG_AGO)) == ["01/all-a/data.csv"]


def test_a_late_file_of_the_newest_revision_does_not_keep_the_old_ones_longer():
    assert swept(
        stored("01/all-a/data.csv", dt.timedelta(days=3)),
        stored("02/all-a/data.csv", LONG_AGO),
        stored("02/query-b/data.csv", dt.timedelta(seconds=1)),
    ) == ["01/all-a/data.csv"]


def test_an_old_revision_that_is_published_late_is_still_the_old_one():
    assert swept(
        stored("02/all-a/data.csv", LONG_AGO), stored("01/all-a/data.csv", dt.timedelta(seconds=1))
    ) == ["01/all-a/data.csv"]


def test_the_newest_files_stay_for_ever():
    age = dt.timedelta(days=300)
    assert swept(stored("02/all-a/data.csv", age), stored("02/all-b/data.csv", age)) == []


def test_the_file_of_a_query_goes_when_nobody_has_asked_for_it_for_long():
    whole = stored("02/all-a/data.csv", dt.timedelta(days=300))
    file = stored("02/query-b/data.csv", dt.timedelta(days=300))
    no_url_lives = 2 * LIFETIME + MARGIN + dt.timedelta(seconds=1)
    assert swept(whole, renewed(file, 2 * LIFETIME)) == []
    assert swept(whole, renewed(file, no_url_lives)) == ["02/query-b/data.csv"]
    assert swept(whole, stored("02/query-b/data.csv", 2 * LIFETIME)) == []
    assert swept(whole, stored("02/query-b/data.csv", no_url_lives)) == ["02/query-b/data.csv"]


def test_the_parts_of_a_querys_file_go_with_it():
    age = 2 * LIFETIME + MARGIN + dt.timedelta(seconds=1)
    objects = [
        stored("02/query-b/attempt", age),
        stored("02/query-b/data.csv", age, parts="dumps/res/csv/02/query-b/7/"),
        stored("02/query-b/7/part-0.csv", age),
    ]
    assert len(swept(*objects)) == 3
    assert swept(*objects[:1], renewed(objects[1], LIFETIME), objects[2]) == []


def test_a_querys_file_is_renewed_before_a_url_for_it_could_outlive_it():
    now = dt.datetime.now(dt.timezone.utc)

    def asked_for(path: str, age: dt.timedelta) -> bool:
        file = StoredObject(f"dumps/res/csv/02/{path}/data.csv", 1, 1, now - age)
        return is_to_be_renewed(file, LIFETIME)

    later = LIFETIME + dt.timedelta(seconds=1)
    assert not asked_for("query-b", LIFETIME - dt.timedelta(minutes=1))
    assert asked_for("query-b", later)
    assert not asked_for("all-a", later)


def test_other_formats_and_resources_do_not_supersede():
    age = dt.timedelta(days=3)
    newer = StoredObject("dumps/res/tsv/02/all-a/data.tsv", 1, 1, NOW - LONG_AGO)
    assert swept(stored("01/all-a/data.csv", age), newer) == []


def test_what_an_attempt_left_beside_its_file_goes_after_a_while():
    objects = [stored("02/all-a/data.csv", LONG_AGO), stored("02/all-a/7/part-0.csv", LONG_AGO)]
    assert swept(*objects) == ["02/all-a/7/part-0.csv"]


def test_the_parts_of_a_file_that_is_kept_in_parts_stay():
    objects = [
        stored("02/all-a/data.csv", LONG_AGO, parts="dumps/res/csv/02/all-a/7/"),
        stored("02/all-a/7/part-0.csv", LONG_AGO),
    ]
    assert swept(*objects) == []


def test_an_attempt_that_may_still_be_at_work_is_left_alone():
    assert (
        swept(
            stored("02/all-a/data.csv", LONG_AGO),
            stored("03/all-a/attempt", dt.timedelta(hours=5)),
            stored("03/all-a/9/part-0.csv", dt.timedelta(hours=5)),
        )
        == []
    )


def test_an_attempt_that_never_became_a_file_goes_in_the_end():
    old = ATTEMPT_LIFETIME + dt.timedelta(seconds=1)
    objects = [stored("03/all-a/attempt", old), stored("03/all-a/9/part-0.csv", old)]
    assert swept(*objects) == ["03/all-a/attempt", "03/all-a/9/part-0.csv"]
