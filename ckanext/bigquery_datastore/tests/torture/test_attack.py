"""What an attack on an early version of the site found, tried again: every door is shut.

The rows of the tables are named after the attack's findings, which docs/developers/torture.md
lists with the tests of each.
"""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import requests
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
    pytest.mark.ckan_config(config.DUMP_SQL_ENABLED, "true"),
]

SECRET = "top-secret"


@pytest.fixture
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


def a_table(private: bool = False, **more: Any) -> dict[str, Any]:
    owner = factories.Organization()
    dataset = factories.Dataset(owner_org=owner["id"], private=private)
    found = factories.Resource(package_id=dataset["id"])
    fields = [{"id": name, "type": kind} for name, kind in TYPES.items()]
    record = {"name": SECRET if private else "shown", "n": 1, "t": "2020-01-01T00:00:00Z"}
    call_action(
        "datastore_create",
        **{"resource_id": found["id"], "force": True, "fields": fields, "records": [record]},
        **more,
    )
    return {**found, "owner": owner["id"]}


TYPES = {"name": "text", "n": "int", "t": "timestamptz"}


@pytest.fixture
def shown() -> dict[str, Any]:
    return a_table()


@pytest.fixture
def hidden() -> dict[str, Any]:
    alias = f"alias-{uuid.uuid4().hex[:8]}"
    return {**a_table(private=True, aliases=[alias]), "alias": alias}


def asked(app: Any, action: str, **params: Any) -> Any:
    return app.test_client().post(f"/api/3/action/{action}", json=params)


def dump_sql(app: Any, sql: str, **params: str) -> Any:
    query = {"sql": sql, **params}
    return app.test_client().get("/datastore/dump_sql", query_string=query, follow_redirects=False)


def is_secret_in(answer: Any) -> bool:
    body = answer.data
    if answer.status_code == 302 and "X-Goog-Signature" in answer.location:
        body += requests.get(answer.location, timeout=20).content
    return SECRET.encode() in body


# --- 1: an impostor's name

FORMS = (
    "{id}#x",
    "{id}?alt=json",
    "{alias}",
    "{alias}#",
    "../tables/{id}",
    "{id}/",
    "{id}\\",
    "{ID}",
)


def test_1_a_resource_named_after_a_private_table_opens_nothing(app, place, hidden):
    user = factories.User()
    dataset = factories.Dataset(user=user, owner_org=factories.Organization(user=user)["id"])
    opened = []
    for form in FORMS:
        name = form.format(**hidden, ID=hidden["id"].upper())
        factories.Resource(package_id=dataset["id"], name=name)
        path = quote(name, safe="")
        opened += [
            (name, way)
            for way in ("", "?limit=1", "/status", "?format=parquet", "/x.ndjson")
            if app.test_client().get(f"/datastore/dump/{path}{way}").status_code != 404
        ]
        opened += [
            (name, way)
            for way in ("formats", "datapackage.json", "dictionary.csv")
            if app.test_client().get(f"/datastore/about/{path}/{way}").status_code != 404
        ]
        opened += [
            (name, action)
            for action in ("datastore_search", "datastore_info")
            if asked(app, action, resource_id=name).status_code == 200
        ]
        if asked(app, "datastore_search_sql", sql=f'SELECT * FROM "{name}"').status_code == 200:
            opened.append((name, "sql"))
    assert opened == []
    # Nothing was exported, under whatever name.
    names = [blob.name for blob in place.storage.list_blobs(place.bucket)]
    assert not [found for found in names if hidden["id"] in found or hidden["alias"] in found]


# --- 2 and 3: SQL that reads, or drops, what it must not

SQL = {
    "2a a unit": "SELECT date_part('year FROM (SELECT max(t) FROM `{h}`)) --', t) FROM {s}",
    "2a another": "SELECT date_trunc('year), (SELECT max(name) FROM {h}) --', t) AS x FROM {s}",
    "2a EXTRACT": 'SELECT EXTRACT("year FROM t), (SELECT max(name) FROM {h}) --" FROM t) FROM {s}',
    "2b a backslash": 'SELECT 1 AS "a\\", 2 AS " FROM {b} --" FROM {s}',
    "2b in backticks": "SELECT 1 AS `a\\`, 2 AS ` FROM {b} --` FROM {s}",
    "2b in a text": "SELECT 'a\\' AS x, ' FROM {b} --' AS y FROM {s}",
    "2 a second statement": "SELECT 1 FROM {s}; DROP TABLE {h}",
    "2 after a comment": "SELECT 1 AS x FROM {s} -- \n; DROP TABLE {h}",
    "2 joined": "SELECT b.name FROM {s} AS a JOIN {h} AS b ON TRUE",
    "2 in a CTE of its name": "WITH \"{i}\" AS (SELECT * FROM {h}) SELECT * FROM \"{i}\"",
    "2 all columns": "SELECT name FROM {s} UNION ALL SELECT name FROM {h}",
    "3 a foreign function": 'SELECT "att-proj".ds.octet_length(name) FROM {s}',
    "3 of the dataset": 'SELECT "{d}".f(name) FROM {s}',
    "held: a schema": "SELECT * FROM INFORMATION_SCHEMA.TABLES",
    "held: by wildcard": 'SELECT * FROM "{w}*"',
    "held: who am I": "SELECT session_user(), @@project_id FROM {s}",
    "held: of old": "SELECT * FROM {h} FOR SYSTEM_TIME AS OF '2020-01-01'",
    "held: outside": "SELECT * FROM EXTERNAL_QUERY('x', 'SELECT 1')",
}  # fmt: skip


def test_2_and_3_no_sql_reads_a_private_table_or_changes_any(app, shown, hidden):
    broken = []
    for item, template in SQL.items():
        sql = template.format(
            s=f'"{shown["id"]}"', h=f'"{hidden["id"]}"', i=hidden["id"], w=hidden["id"][:8],
            b=f"`{config.project()}.{config.dataset()}.{hidden['id']}`", d=config.dataset(),
        )  # fmt: skip
        answers = asked(app, "datastore_search_sql", sql=sql), dump_sql(app, sql)
        if any(answer.status_code >= 500 or is_secret_in(answer) for answer in answers):
            broken.append((item, [answer.data for answer in answers]))
    assert broken == []
    found = call_action("datastore_search", resource_id=hidden["id"])
    assert [record["name"] for record in found["records"]] == [SECRET]


# --- 4: one request that holds a worker, and 5: without a limit

# What is read within the time of any other request, however long it is.
LONG: dict[str, dict[str, Any]] = {
    "4 a sort of spaces": {"sort": "a" + " " * 70_000 + "b"},
    "4 many sorts": {"sort": ",".join(["name asc"] * 9_000)},
    "4 a tsquery": {"q": "a & " * 150_000 + "b", "plain": False},
    "4 negations": {"q": "!" * 600_000 + "b", "plain": False},
    "4 words": {"q": "wort " * 120_000},
    "4 spaces in q": {"q": " " * 600_000},
    "4 filters": {"filters": {"name": ["x"] * 200_000}},
    "4 levels": {"filters": json.loads("[" * 300 + "]" * 300)},
    "5 a field many times": {"fields": ["name"] * 803},
    "5 fields as a text": {"fields": ",".join(["name"] * 9_000)},
}


def test_4_a_long_parameter_is_read_or_refused_at_once(app, shown):
    asked(app, "datastore_search", resource_id=shown["id"], limit=1)
    slow = []
    for item, given in LONG.items():
        # Of this process alone: others of the machine take none of it.
        began = time.process_time()
        answer = asked(app, "datastore_search", resource_id=shown["id"], limit=1, **given)
        seconds = time.process_time() - began
        if answer.status_code >= 500 or seconds > 3 or len(answer.data) > 2_000_000:
            slow.append((item, answer.status_code, seconds, answer.data[:300]))
    assert slow == []


def test_5_a_column_is_given_once_however_often_it_is_named(app, shown):
    named = ",".join(["name"] * 803)
    answer = visit(app, shown["id"], {"fields": named, "limit": "1"})
    assert answer.status_code in (200, 400)
    assert len(answer.data) < 2_000


@pytest.mark.ckan_config(config.SEARCH_SQL_BYTES, "100000")
@pytest.mark.ckan_config(config.DUMP_SQL_RESULT_BYTES, "100000")
def test_5_what_a_query_makes_of_nothing_is_bounded(app, shown):
    sql = f"SELECT repeat('x', 1000000) AS x FROM \"{shown['id']}\""
    answer = asked(app, "datastore_search_sql", sql=sql)
    assert answer.status_code == 409 and len(answer.data) < 100_000
    answer = dump_sql(app, sql)
    assert answer.status_code in (400, 413), answer.data


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "3")
def test_5_a_thousand_filters_are_as_many_exports_as_the_site_allows(app, shown, monkeypatch):
    monkeypatch.setitem(tk.config, "ckan.site_id", f"site-{uuid.uuid4().hex}")
    statuses = [
        visit(app, shown["id"], {"filters": json.dumps({"n": n})}, Prefer="respond-async")
        for n in range(9)
    ]
    found = [answer.status_code for answer in statuses]
    assert found[3:] == [429] * 6 and set(found[:3]) <= {202, 302}
    assert visit(app, shown["id"], Prefer="respond-async").status_code in (202, 302)


# --- 6: data withdrawn

LEFT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "6 deleted": lambda r: call_action("package_patch", id=r["package_id"], state="deleted"),
    "6 a draft": lambda r: call_action("package_patch", id=r["package_id"], state="draft"),
    "6 in bulk": lambda r: call_action(
        "bulk_update_delete", datasets=[r["package_id"]], org_id=r["owner"]
    ),
    "6 purged": lambda r: call_action("dataset_purge", id=r["package_id"]),
    "6 private": lambda r: call_action("package_patch", id=r["package_id"], private=True),
    "6 taken out": lambda r: call_action("package_patch", id=r["package_id"], resources=[]),
    "6 rows": lambda r: call_action(
        "datastore_delete", resource_id=r["id"], filters={"n": 1}, force=True
    ),
}


def test_6_a_link_is_dead_and_none_is_given_once_data_are_withdrawn(app):
    alive = []
    for item, way in LEFT.items():
        table = a_table()
        links = [visit(app, table["id"], query).location for query in ("", "format=parquet")]
        assert [requests.get(link, timeout=20).status_code for link in links] == [200, 200]
        way(table)
        statuses = [requests.get(link, timeout=20).status_code for link in links]
        answer = visit(app, table["id"], "limit=1")
        if statuses != [404, 404] or (answer.status_code == 200 and b"shown" in answer.data):
            alive.append((item, statuses, answer.status_code))
    assert alive == []


# --- 7: Google's words


def test_7_a_visitor_hears_neither_account_nor_project_nor_bucket(app, shown):
    sql = f'SELECT CAST(name AS int) AS x FROM "{shown["id"]}"'
    wanting = f"/datastore/dump/{shown['id']}?filters=%7B%22nothing%22%3A1%7D"
    for answer in (
        dump_sql(app, sql),
        asked(app, "datastore_search_sql", sql=sql),
        app.test_client().get(wanting),
    ):
        assert 400 <= answer.status_code < 500
        for word in ("gserviceaccount", config.export_bucket(), f"{config.project()}."):
            assert word not in answer.text


# --- 8: what was a 500

PATHS = (".", "..", "%3F", "%23", "%00", "a%00b", "%2e%2e", "x%2fy", "%ff", "%5c")
VALUES: dict[str, dict[str, Any]] = {
    "negations": {"q": "!" * 3_000, "plain": False},
    "parentheses": {"q": "(" * 3_000, "plain": False},
    "levels": {"filters": "[" * 1_900},
    "a zone": {"filters": {"t": "0001-01-01T00:00:00+14:00"}},
    "no zone": {"filters": {"t": "2020-01-01T00:00:00+99:99"}},
    "digits": {"filters": {"n": "9" * 4_400}},
    "an exponent": {"filters": {"n": "1e-99999999999999999999"}},
    "a limit": {"limit": 2**63},
    "an offset": {"offset": 2**63},
}
QUERIES = (
    "SELECT name FROM {s} LIMIT 'a'",
    "SELECT regexp_replace(name, 'a') FROM {s}",
    "SELECT date_add() FROM {s}",
    "SELECT nothing FROM {s}",
    "SELECT name FROM {s} LIMIT 9223372036854775808",
    "SELECT name FROM {s} OFFSET 99999999999999999999",
)


def test_8_no_path_is_an_error_of_the_sites(app):
    for path in PATHS:
        for suffix in ("", "/status", "/x.csv"):
            assert visit(app, path, suffix=suffix).status_code in (308, 400, 404), path


def test_8_no_value_is_an_error_of_the_sites(app, shown):
    errors = []
    for item, given in VALUES.items():
        search = asked(app, "datastore_search", resource_id=shown["id"], **given)
        query = {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
        dumps = [visit(app, shown["id"], {**more, **query}) for more in ({}, {"limit": "1"})]
        found = [answer.status_code for answer in (search, *dumps)]
        if max(found) >= 500:
            errors.append((item, found))
    assert errors == []


def test_8_a_query_that_bigquery_refuses_is_the_visitors_mistake(app, shown):
    errors = []
    for template in QUERIES:
        sql = template.format(s=f'"{shown["id"]}"')
        found = asked(app, "datastore_search_sql", sql=sql), dump_sql(app, sql)
        if max(answer.status_code for answer in found) >= 500:
            errors.append((sql, [answer.data for answer in found]))
    assert errors == []


# --- 9: a label that looks like ours, and 10: a clock


def test_9_a_label_that_begins_as_our_own_notes_takes_no_name_and_no_type(shown):
    for label in ("CKAN {", 'CKAN {"label":1}', 'x\n\nCKAN {"name":"y","type":"bool"}'):
        fields = [{"id": "n", "type": "int", "info": {"label": label}}]
        call_action("datastore_create", resource_id=shown["id"], force=True, fields=fields)
        found = {
            field["id"]: field for field in call_action("datastore_info", id=shown["id"])["fields"]
        }
        assert (found["n"]["type"], found["n"]["info"]["label"]) == ("int4", label)


def test_10_no_clock_tells_a_private_id_from_one_that_is_not(app, hidden):
    def seconds(id: str) -> float:
        began = time.perf_counter()
        assert visit(app, id).status_code == 404
        return time.perf_counter() - began

    times = [(seconds(hidden["id"]), seconds(str(uuid.uuid4()))) for _ in range(25)]
    private, unknown = (statistics.median(column) for column in zip(*times, strict=True))
    # A request to Google, which one of the two would need, is several times as long.
    assert 0.5 < private / unknown < 2
