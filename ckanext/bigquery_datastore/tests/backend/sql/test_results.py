"""The second look at a query: BigQuery's own word on what the very text would read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlglot

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.sql import results
from ckanext.bigquery_datastore.backend.sql.check import Checked, NotAllowed, parse_select
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.errors import TooLarge
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("datastore", "with_plugins", "nothing_remembered")

NAMES = ("seen", "hidden", "looking")


@pytest.fixture
def place() -> Place:
    found = Place(config.dataset(), config.export_bucket())
    for name in NAMES[:2]:
        found.fill(name, [{"name": "x" * 100}] * 3, name="STRING")
    looking, seen = f"`{found.dataset}.looking`", f"`{found.dataset}.seen`"
    found.bigquery.query(f"CREATE OR REPLACE VIEW {looking} AS SELECT name FROM {seen}").result()
    return found


def checked(name: str) -> Checked:
    # Past the door: these tables belong to no resource.
    client = clients.bigquery_ro()
    found = parse_select(
        f'SELECT name FROM "{name}"', lambda id: get_table(client, id), lambda ids: None
    )
    assert found.tables
    return found


@pytest.mark.parametrize("kind", ["TABLE", "VIEW", "EXTERNAL", "MATERIALIZED_VIEW"])
def test_a_text_that_reads_another_table_is_refused_whatever_the_known_ones_are(place, kind):
    known = checked("seen")
    smuggled = checked("hidden").expression
    tables = (replace(known.tables[0], kind=kind),)
    with pytest.raises(NotAllowed, match="hidden"):
        results.run(clients.bigquery_ro(), Checked(smuggled, tables), 10, 10_000, 20)


def test_a_view_brings_what_its_maker_put_into_it_and_no_more(place):
    assert len(results.run(clients.bigquery_ro(), checked("looking"), 10, 10_000, 20).rows) == 3
    join = sqlglot.parse_one(
        f"SELECT a.name FROM `{config.project()}`.`{place.dataset}`.`looking` AS a "
        f"CROSS JOIN `{config.project()}`.`{place.dataset}`.`hidden` AS b",
        read="bigquery",
    )
    with pytest.raises(NotAllowed, match="hidden"):
        results.certify(clients.bigquery_ro(), checked("looking"), join.sql(dialect="bigquery"))


@pytest.mark.parametrize(
    "text",
    ["DROP TABLE {hidden}", "SELECT 1; DROP TABLE {hidden}", "DELETE FROM {hidden} WHERE TRUE"],
)
def test_what_is_not_exactly_one_select_is_refused(place, text):
    named = text.replace("{hidden}", f"`{config.project()}.{place.dataset}.hidden`")
    with pytest.raises(NotAllowed, match="not a SELECT"):
        results.certify(clients.bigquery_ro(), checked("seen"), named)


def test_an_answer_larger_than_a_worker_should_hold_is_refused_while_it_is_read(place):
    with pytest.raises(TooLarge, match="more than 250 bytes"):
        results.run(clients.bigquery_ro(), checked("seen"), 10, 250, 20)
    assert len(results.run(clients.bigquery_ro(), checked("seen"), 10, 300, 20).rows) == 3
