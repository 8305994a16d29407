"""Values through the write path and out as text, by GoogleSQL's evaluator, are PostgreSQL's."""

from __future__ import annotations

import json

import psycopg2
import pytest
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search import fulltext
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.tests.evaluated import evaluate

pytestmark = pytest.mark.usefixtures("with_plugins")

VALUES = {
    "text": ["", "🙂", "a\\u0041", '"\n\t\u2028', "é́ ß İ", "\\", "<&>'"],
    "int8": ["-9223372036854775808", "9223372036854775807", "0"],
    "numeric": ["-99999999999999999999999999999.999999999", "0.000000001", "1e10", "12"],
    "float8": ["-0", "NaN", "-Infinity", "5.2990648348713776e16", "5.9604644775390625e-8", "1e15"],
    "bool": ["true", "f"],
    "date": ["0001-01-01", "9999-12-31", "2024-02-29"],
    "time": ["23:59:59.999999", "00:00", "12:30:00.5"],
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_written_comes_out_as_postgresql_has_it(name: str) -> None:
    kind = types.TYPES[name]
    rows = tuple(json.dumps([kind.write(v)], ensure_ascii=False) for v in VALUES[name])
    text = types.export_text(kind, kind.from_text("JSON_VALUE(r, '$[0]')"))
    found = evaluate(
        f"SELECT {text} FROM UNNEST(@rows) AS r WITH OFFSET AS n ORDER BY n",
        [Parameter("rows", "STRING", rows)],
    )
    with psycopg2.connect(tk.config["sqlalchemy.url"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT CASE WHEN %s THEN left(x::{name}::text, 1) ELSE x::{name}::text END "
            "FROM unnest(%s) WITH ORDINALITY AS given (x, n) ORDER BY n",
            (name == "bool", VALUES[name]),
        )
        assert found == cursor.fetchall()


def test_words_are_the_same_in_python_and_in_googlesql() -> None:
    texts = (*VALUES["text"], "Warm_Winter 52.56 x-y", "ÄPFEL ǅ ﬁ", "١٢ 三", "a.b 1.2.3")
    found = evaluate(
        f"SELECT {fulltext.words_sql('x')} FROM UNNEST(@texts) AS x WITH OFFSET AS n ORDER BY n",
        [Parameter("texts", "STRING", texts)],
    )
    assert [words.split() for (words,) in found] == [fulltext.words_of(text) for text in texts]
