"""What somebody might send who means harm: texts, names, numbers, JSON, SQL, headers.

Each text of a visitor stands between two marks, so that it is found again wherever it gets to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

BEGIN, END = "zzUSERzz", "zzENDzz"

# A page that shows this as it is lets strangers run scripts in it.
SCRIPT = "<img src=x onerror=alert(1)>"

# What breaks out of a text, a name, a comment, a path, a header, a template.
_SHARDS = (
    "'", "''", '"', '""', "`", "\\", "\\'", "\\`", "--", "#", "/*", "*/", ";", "\n", "\r\n", "\r",
    "\t", "\0", "%", "%00", "%0d%0aSet-Cookie: zz=1", "\r\nLocation: http://zz.example/", "..",
    "../", "/", "//", "?", "&", "=", "$$", "@", "@@", "@p0", "{", "}", "{{7*7}}", "${7}", "a", "1",
    "%s", "%(x)s", "é", "🙂", "İ", "ß", "\u0301", "\u2028", "\u202e", "\x1f", "\x7f", "\ufeff",
    "\ud800", " ", ",", ":", "(", ")", "[", "]", "*", "!", "|", "<->", " OR 1=1", "'''", '"""',
    "r'", " FROM p.d.priv ", "; DROP TABLE p.d.priv", " UNION ALL SELECT * FROM `p.d.priv`",
    "SESSION_USER()", "\\x27", "\\u0027", "\\047", "${jndi:ldap://zz.example}", SCRIPT,
)  # fmt: skip

TEXT = st.lists(st.sampled_from(_SHARDS) | st.characters(), max_size=5).map("".join)
USER = TEXT.map(lambda text: f"{BEGIN}{text}{END}")

NUMBERS = st.one_of(
    st.integers(-3, 1000),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**400, -1, 0]),
    st.sampled_from(["1e400", "-1e-99999999999999", "9" * 4400, "NaN", "infinity", "0x1", "१"]),
)
_MOMENTS = ("2020-02-30", "0001-01-01T00:00:00+14:00", "10000-01-01", "2020-01-01T24:00:61+99:99")
SCALARS = st.one_of(
    USER, NUMBERS, st.none(), st.booleans(), st.sampled_from(_MOMENTS), st.just("x" * 9_000)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(USER, inner, max_size=3),
    max_leaves=5,
)
# Of the characters themselves, deep or broken beyond what JSON's writer would write.
_RAW_JSON = ("[" * 3_000, '{"a":' * 2_000, "[" * 900 + "]" * 900, '{"a":1,"a":2}', "{", "NaN", "")

_TYPES = ("text", "int", "float8", "numeric", "bool", "date", "timestamp", "timestamptz", "time",
          "json", "jsonb", "text[]", "_int4", "interval", "bytea", "numeric(3,1)", "varchar(2)",
          "geometry", "serial", "int[][]", "text; DROP")  # fmt: skip
_FORMATS = ("csv", "tsv", "json", "xml", "csv.gz", "ndjson", "ndjson.gz", "parquet", "geojson",
            "geoparquet", "gzip")  # fmt: skip
_OPERATORS = ("eq", "in", "gt", "gte", "lt", "lte", "neq", "range", "$or", "not")


@dataclass(frozen=True)
class Targets:
    """What there is on the site to be asked for; ``scratch`` is what may be written to."""

    dataset: str
    tables: tuple[str, ...]
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    scratch: tuple[str, ...]
    tokens: tuple[str, ...]


def _mostly(
    likely: st.SearchStrategy[Any], other: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    return st.integers(0, 4).flatmap(lambda chance: other if chance == 0 else likely)


def ids(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Names of tables, mostly as they are, else with something behind or before them."""
    known = st.sampled_from(names)
    tails = ("#x", "?alt=json", "%23", "/..", "/../x", "\0", " ", "\\", ":x", "$x", "@1", "%2e")
    bent = st.builds(lambda name, tail: name + tail, known, st.sampled_from(tails))
    odd = st.sampled_from((".", "..", "#", "?", "", " ", "*", "_table_metadata", "_load_x"))
    return _mostly(known, st.one_of(bent, odd, USER, known.map(str.upper)))


def _sql(targets: Targets) -> st.SearchStrategy[str]:
    def filled(template: str, id: str, column: str, user: str, number: Any) -> str:
        return (
            template.replace("{id}", id.replace('"', '""'))
            .replace("{column}", column.replace('"', '""'))
            .replace("{name}", user.replace('"', '""'))
            .replace("{text}", user.replace("'", "''"))
            .replace("{number}", str(number))
        )

    templates = (
        'SELECT "{column}" AS "{name}" FROM "{id}" LIMIT 5',
        "SELECT * FROM \"{id}\" WHERE \"{column}\" = '{text}' LIMIT {number}",
        "SELECT '{text}' AS \"{name}\", \"{column}\" FROM \"{id}\" AS \"{name}\" LIMIT 2",
        'WITH "{name}" AS (SELECT "{column}" FROM "{id}") SELECT * FROM "{name}" LIMIT 1',
        'SELECT date_trunc(\'{text}\', now()) AS x FROM "{id}" LIMIT 1',
        'SELECT EXTRACT("{name}" FROM now()) AS x FROM "{id}" LIMIT 1',
        'SELECT "{name}".f("{column}") FROM "{id}"',
        'SELECT count(*) FROM "{id}" WHERE "{column}" ~ E\'{text}\'',
        'SELECT replace(\'{text}\', $${text}$$, U&\'{text}\') FROM "{id}" LIMIT 1',
        "SELECT 1 FROM \"{id}\" /* {text} */ LIMIT 1 -- {text}",
        'SELECT "{column}" FROM "{id}" ORDER BY "{name}" OFFSET {number}',
        'SELECT 1 FROM "{id}"; DROP TABLE "{id}"',
        "{text}",
    )  # fmt: skip
    parts = (ids(targets.tables), st.sampled_from(targets.columns), USER, NUMBERS)
    return st.builds(filled, st.sampled_from(templates), *parts)


def parameters(targets: Targets) -> dict[str, st.SearchStrategy[Any]]:
    """What each parameter of a route or an action is given, by its name."""
    column = _mostly(st.sampled_from(targets.columns), USER)
    text = st.sampled_from(targets.texts)
    columns = st.lists(column, max_size=3) | column
    conditions = st.dictionaries(st.sampled_from(_OPERATORS) | USER, JSON, max_size=2)
    filters = st.one_of(
        st.dictionaries(text, USER | st.lists(USER), max_size=2),
        st.dictionaries(column, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
        st.dictionaries(column, conditions, max_size=2),
        st.dictionaries(column, conditions, max_size=2).map(json.dumps),
        st.sampled_from(_RAW_JSON),
        JSON,
    )
    order = st.builds(lambda name, end: name + end, column, st.sampled_from(_ENDS))
    boolean = st.one_of(st.booleans(), st.sampled_from(["true", "1", "t", "maybe"]), SCALARS)
    field = st.fixed_dictionaries(
        {"id": _mostly(column, SCALARS)},
        optional={"type": st.sampled_from(_TYPES) | SCALARS, "info": JSON, "schema": JSON},
    )
    records = st.one_of(
        st.lists(st.dictionaries(text, USER, min_size=1, max_size=2), min_size=1, max_size=3),
        st.lists(st.dictionaries(column, JSON, max_size=3), max_size=3),
    )
    return {
        "resource_id": ids(targets.tables),
        "id": ids(targets.tables),
        "resource": st.dictionaries(USER, SCALARS, max_size=2) | JSON,
        "q": st.one_of(USER, st.dictionaries(text, USER, max_size=2), TEXT, JSON),
        "filters": filters,
        "fields": columns | columns.map(_joined),
        "sort": st.one_of(order, st.lists(order, max_size=3), st.just("a" + " " * 9_000 + "b")),
        "limit": _mostly(st.integers(0, 5), SCALARS),
        "offset": _mostly(st.integers(0, 5), SCALARS),
        "format": _mostly(st.sampled_from(_FORMATS), SCALARS),
        "language": st.sampled_from(["english", "simple", "de"]) | SCALARS,
        "full_text": st.sampled_from(["a & b", "!" * 900, "(" * 900]) | USER,
        "records_format": st.sampled_from(["objects", "lists", "csv", "tsv"]) | SCALARS,
        "sql": _sql(targets),
        "aliases": st.lists(ids((*targets.tables, "an alias")), max_size=2) | SCALARS,
        "primary_key": columns,
        "indexes": columns,
        "records": records | JSON,
        "method": st.sampled_from(["insert", "update", "upsert"]) | SCALARS,
        "triggers": JSON,
        "calculate_record_count": boolean,
        "mode": st.sampled_from(["replace", "append", "upsert"]) | SCALARS,
        "sheet": SCALARS,
        "encoding": st.sampled_from(["utf-8", "cp1252", "idna", "zip", "hex"]) | SCALARS,
        "delimiter": st.sampled_from([",", ";", "\\", '"', "\n", "\0"]) | SCALARS,
        "null": SCALARS,
        "skip_bad_rows": NUMBERS,
        "total_estimation_threshold": NUMBERS,
        "_hop": SCALARS,
        "_new_fields": st.lists(field, max_size=3) | JSON,
        **dict.fromkeys(("name", "arguments", "rettype", "definition"), JSON),
        **dict.fromkeys(_BOOLEANS, boolean),
    }


_ENDS = (
    "",
    " asc",
    " desc",
    " DESC NULLS LAST",
    " nulls first",
    ",,",
    " desc; DROP TABLE x",
    "::x",
)
_BOOLEANS = (
    *("plain", "distinct", "bom", "force", "include_total", "include_records", "dry_run"),
    *("include_deleted_records", "delete_fields", "day_first", "or_replace", "if_exists"),
    *("include_meta", "include_fields_schema", "include_next_page"),
)


def _joined(names: str | list[str]) -> str:
    return names if isinstance(names, str) else ", ".join(names)


def file_names(targets: Targets) -> st.SearchStrategy[str]:
    """The last part of an address that ends like a file's name."""
    ends = st.sampled_from([*(f".{name}" for name in _FORMATS), ".exe", ".CSV", "", ".csv/"])
    return st.builds(lambda name, end: name + end, TEXT | USER, ends)


def headers(targets: Targets) -> st.SearchStrategy[dict[str, str]]:
    """Headers that we or those before us look at; a server takes no line's end inside one."""
    user = USER.map(_as_header)
    host = st.sampled_from(["zz.example", "zz.example:80@x", "[::1]", "a/b", "x\ty", ""]) | user
    etag = st.sampled_from(["*", '"x"', 'W/"x"', '"', "x, y"]) | user
    ranges = ("bytes=0-", "bytes=-1", "bytes=5-2", "bytes=0-0,2-3", "bytes=" + "9" * 400 + "-",
              "bytes=a-b", "rows=0-1", "bytes=0-1," * 300)  # fmt: skip
    dates = ("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0", "x")
    accepted = ("text/html", "*/*", "application/json", "text/html;q=x,,;")
    return few_of(
        {
            "Range": st.sampled_from(ranges) | user,
            "If-Range": st.sampled_from(dates) | etag,
            "If-None-Match": etag,
            "If-Match": etag,
            "If-Modified-Since": st.sampled_from(dates) | user,
            "Prefer": st.sampled_from(["respond-async", "wait=99999999999", "RESPOND-ASYNC,"]),
            "Accept": st.sampled_from(accepted) | user,
            "Accept-Language": st.sampled_from(["de", "../../etc", "x" * 300]) | user,
            "Host": _mostly(st.just("test.ckan.net"), host),
            "X-Forwarded-Host": host,
            "X-Forwarded-Proto": st.sampled_from(["https", "javascript", "gopher"]) | user,
            "X-Forwarded-For": st.sampled_from(["127.0.0.1", "::1, x"]) | user,
            "X-Original-URL": user,
            "X-Accel-Redirect": user,
            "X-Bigquery-Datastore-Handover": user,
            "User-Agent": st.sampled_from(["curl/8.5.0", "Mozilla/5.0", "Wget/1.21"]) | user,
            "Origin": st.sampled_from(["null", "https://zz.example"]) | user,
            "Cookie": user,
            "Content-Type": st.sampled_from(["application/json", "text/xml"]) | user,
            "Authorization": _mostly(st.sampled_from(targets.tokens), user),
        }
    )


def few_of(known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of them: with all at once hardly anything would get past the first look."""
    names = (
        st.lists(st.sampled_from(sorted(known)), max_size=3, unique=True) if known else st.just([])
    )
    return names.flatmap(lambda some: st.fixed_dictionaries({name: known[name] for name in some}))


def _as_header(text: str) -> str:
    """As bytes come from a server: Latin-1, on one line."""
    return quote(text, safe="/:;=,\"'<>@()*%# ", errors="replace")
