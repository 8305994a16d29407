"""Tables whose rows lie somewhere: GeoJSON, a feature a line, and Parquet that maps can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pytest
import requests
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.backend.table.model import Column
from ckanext.bigquery_datastore.backend.table.types import TYPES
from ckanext.bigquery_datastore.dump import features, formats
from ckanext.bigquery_datastore.dump.parquet import geo
from ckanext.bigquery_datastore.tests.dump.exporting import Place

SITE = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered")

# Five rows a shard and more: a line, areas, points and a row that lies nowhere.
SHAPES = """
    SELECT n AS _id, CONCAT('<', CAST(n AS STRING), '> "ü"') AS `what is it`, n / 4 AS quarter,
      IF(n = 3, NULL, MOD(n, 2) = 0) AS even,
      TIMESTAMP_ADD(TIMESTAMP '2024-02-29 12:00:00+00', INTERVAL n SECOND) AS moment,
      JSON '{"a": [1, null]}' AS document,
      CASE
        WHEN n = 1 THEN NULL
        WHEN n = 2 THEN ST_GEOGFROMTEXT('LINESTRING(1 2, 3 4)')
        WHEN n < 20 THEN ST_GEOGFROMTEXT('POLYGON((0 0, 1 0, 1 1, 0 1, 0 0))')
        ELSE ST_GEOGPOINT(n / 10, -n / 10)
      END AS place
    FROM UNNEST(GENERATE_ARRAY(1, 100)) AS n
"""


@pytest.fixture()
def shapes(monkeypatch) -> str:
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_shards": "5"})
    place = Place(config.dataset(), config.export_bucket())
    resource_id = factories.Resource()["id"]
    place.bigquery.query(f"CREATE TABLE `{place.dataset}.{resource_id}` AS {SHAPES}").result()
    return resource_id


def fetched(app, resource_id: str, query: str) -> requests.Response:
    """The file, from wherever it comes."""
    answer = app.get(f"/datastore/dump/{resource_id}?{query}", follow_redirects=False)
    if answer.status_code == 302:
        return requests.get(answer.location, timeout=30)
    found = requests.Response()
    found.status_code, found._content = answer.status_code, answer.data
    found.headers.update(answer.headers)
    return found


@SITE
def test_a_table_of_geographies_is_a_map_in_three_formats(app, shapes, tmp_path):
    lines = fetched(app, shapes, "format=geojsonl")
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    found = [json.loads(line) for line in lines.content.splitlines()]
    assert [feature["properties"]["_id"] for feature in found] == list(range(1, 101))
    assert [feature["geometry"] and feature["geometry"]["type"] for feature in found[:3]] == [
        *(None, "LineString", "Polygon"),
    ]
    assert found[2] == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]],
        },
        "properties": {
            "_id": 3,
            "what is it": '<3> "ü"',
            "quarter": 0.75,
            "even": None,
            "moment": "2024-02-29T12:00:03+00:00",
            "document": {"a": [1, None]},
        },
    }

    collection = fetched(app, shapes, "format=geojson")
    assert collection.headers["Content-Type"] == "application/geo+json"
    assert ".geojson" in collection.headers["Content-Disposition"]
    assert collection.json() == {"type": "FeatureCollection", "features": found}
    (tmp_path / "map.geojson").write_bytes(collection.content)
    by_json = geopandas.read_file(tmp_path / "map.geojson")
    assert (len(by_json), by_json.crs.to_epsg()) == (100, 4326)

    parquet = tmp_path / "map.parquet"
    parquet.write_bytes(fetched(app, shapes, "format=parquet").content)
    with pytest.warns(UserWarning, match="spherical edges"):
        by_parquet = geopandas.read_parquet(parquet)
    assert by_parquet.geometry.name == "place"
    assert list(by_parquet.total_bounds) == [0.0, -10.0, 10.0, 4.0]
    # But for what lies nowhere, and the line, which a sphere bends: GeoJSON has points between.
    pairs = list(zip(by_parquet.geometry, by_json.geometry, strict=True))
    assert pairs[0] == (None, None)
    assert len(pairs[1][1].coords) > len(pairs[1][0].coords) == 2
    assert all(one.equals_exact(other, 1e-9) for one, other in pairs[2:])
    assert spatially(parquet) == (99, "POINT (10 -10)")


def spatially(parquet: Path) -> tuple[Any, ...]:
    """What DuckDB's extension for maps makes of the file: geometries, not bytes."""
    with duckdb.connect() as connection:
        connection.load_extension("spatial")
        return (
            connection.execute(
                "SELECT COUNT(place), ANY_VALUE(ST_AsText(place)) FILTER (_id = 100) "
                f"FROM '{parquet}'"
            ).fetchone()
            or ()
        )


@SITE
def test_filters_and_columns_hold_and_a_table_that_lies_nowhere_is_no_map(app, shapes):
    some = fetched(app, shapes, 'format=geojson&filters={"_id":[50,60]}&fields=place&limit=1')
    point = {"type": "Point", "coordinates": [5, -5]}
    assert some.json()["features"] == [{"type": "Feature", "geometry": point, "properties": {}}]
    none = fetched(app, shapes, 'format=geojson&filters={"_id":0}')
    assert none.json() == {"type": "FeatureCollection", "features": []}
    refused = fetched(app, shapes, "format=geojsonl&fields=_id")
    assert refused.status_code == 400
    assert refused.text.startswith("format: geojsonl needs a column of type GEOGRAPHY, or two")


@SITE
def test_what_the_data_dictionary_calls_latitude_and_longitude_is_a_place(app):
    resource = factories.Resource()
    fields = [
        {"id": "y", "type": "numeric", "info": {"label": "Latitude"}},
        {"id": "x", "type": "float8", "info": {"label": " LONGITUDE "}},
        {"id": "lon", "type": "text"},
        {"id": "ints", "type": "int[]"},
    ]
    records = [
        {"y": 48.25, "x": 16.5, "lon": "a", "ints": [1, 2]},
        {"y": 91, "x": 16.5, "lon": None, "ints": None},
        {"y": None, "x": "NaN", "lon": "c", "ints": []},
    ]
    helpers.call_action(
        "datastore_create",
        resource_id=resource["id"],
        force=True,
        fields=fields,
        records=records,
    )
    found = fetched(app, resource["id"], "format=geojson").json()["features"]
    assert [feature["geometry"] for feature in found] == [
        {"type": "Point", "coordinates": [16.5, 48.25]},
        None,
        None,
    ]
    assert found[0]["properties"] == {"_id": 1, "y": 48.25, "x": 16.5, "lon": "a", "ints": [1, 2]}
    assert found[2]["properties"] == {"_id": 3, "y": None, "x": None, "lon": "c", "ints": []}


def column(name: str, type_: str = "float8", label: str = "") -> Column:
    return Column(name, TYPES[type_], info={"label": label} if label else {})


@pytest.mark.parametrize(
    "columns, is_map",
    [
        ([column("Lat"), column("lng")], True),
        ([column("lat"), column("lon", label="Longitude"), column("long")], True),
        ([column("lat"), column("lon"), column("long")], False),
        ([column("lat", "text"), column("lon")], False),
        ([column("lat")], False),
        ([column("x", label="Längengrad"), column("y", "int4", label="Breitengrad")], True),
    ],
)
def test_only_one_pair_of_numbers_is_a_place(columns, is_map):
    assert bool(features.place_of(columns)) == is_map
    assert ("geojson" in {row.name for row in formats.offered(columns)}) == is_map


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_a_collection_is_made_of_lines_wherever_they_are_cut(size):
    lines = b'{"a": 1}\n{"b": "\\n"}\n{"c": 3}\n'
    chunks = [lines[at : at + size] for at in range(0, len(lines), size)]
    found = b"".join(features.to_collection([], [b"", *chunks, b""]))
    assert json.loads(found)["features"] == [{"a": 1}, {"b": "\n"}, {"c": 3}]
    assert json.loads(b"".join(features.to_collection([], [])))["features"] == []


def described(**column: Any) -> bytes:
    return json.dumps(
        {"version": "1.1.0", "primary_column": "g", "columns": {"g": {"encoding": "WKB", **column}}}
    ).encode()


def test_what_is_not_known_of_one_shard_is_not_said_of_the_file():
    one = described(geometry_types=["Point"], bbox=[1, 2, 3, 4], edges="spherical")
    other = described(geometry_types=["Polygon"], bbox=[0, 3, 2, 9], edges="spherical")
    unknown = described(geometry_types=[], edges="spherical")
    across = described(geometry_types=["Point"], bbox=[170, 0, -170, 1], edges="spherical")
    planar = described(geometry_types=["Point"])

    def of(*shards: bytes | None) -> Any:
        value = geo.merged(shards)
        return value and json.loads(value)["columns"]["g"]

    whole = {"encoding": "WKB", "edges": "spherical"}
    assert of(one, other) == {
        **whole,
        "geometry_types": ["Point", "Polygon"],
        "bbox": [0, 2, 3, 9],
    }
    assert of(one, unknown) == {**whole, "geometry_types": []}
    assert of(one, across) == {**whole, "geometry_types": ["Point"]}
    for odd in (planar, None, b"{", b'{"columns": []}', b"[" * 5000):
        assert of(one, odd) is None
