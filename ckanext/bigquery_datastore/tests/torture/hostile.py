"""What no honest client sends: values of any size and depth for every parameter of a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

# An action, a parameter, a fault, a body.
Way = tuple[str, str, str, str]


def values(size: int, depth: int) -> dict[str, str]:
    """JSON, some of it too deep or too large to be read, by what is wrong with it."""
    some = max(size // 20, 1)
    return {
        "a long text": json.dumps("x" * size),
        "spaces": json.dumps("n" + " " * size + "x"),
        "negations": json.dumps("!" * size),
        "parentheses": json.dumps("(" * size),
        "operators": json.dumps("a|b & " * some),
        "quotes": json.dumps("'" * size),
        "commas": json.dumps("," * size),
        "comments": json.dumps("/*" * some),
        "digits as a text": json.dumps("9" * size),
        "digits": "9" * size,
        "a fraction": "0." + "9" * size,
        "a large exponent": "1e1000000000",
        "not a number": "NaN",
        "endless": "-Infinity",
        "brackets": "[" * depth + "]" * depth,
        "objects": '{"a":' * depth + "1" + "}" * depth,
        "brackets as a text": json.dumps("[" * depth),
        "brackets that can be read": "[" * 600 + "]" * 600,
        "objects that can be read": '{"a":' * 600 + "1" + "}" * 600,
        "lists of objects that can be read": '[{"a":' * 300 + "1" + "}]" * 300,
        "many values": "[" + "0," * some + "0]",
        "many texts": "[" + '"n",' * some + '"n"]',
        "many objects": "[" + "{}," * some + "{}]",
        "many keys": "{" + "".join(f'"k{n}":1,' for n in range(some)) + '"k":1}',
        "blanks": '"  "',
        "NUL": '"a\\u0000b"',
        "half a character": '"\\ud83d"',
        "a long query": json.dumps("SELECT 1" + ",1" * min(some, 49_000)),
        "a long list": json.dumps(f"SELECT 1 WHERE 1 IN (1{',1' * min(some, 49_000)})"),
        "SQL": json.dumps("'; DROP TABLE x; --"),
    }


# Whose value is what somebody likes: any action that takes it, and the rest of its body.
PARAMETERS = {
    "datastore_search": (
        *("q", "filters", "sort", "fields", "limit", "offset", "language", "full_text"),
        *("distinct", "plain", "include_total", "records_format", "resource_id", "unknown"),
    ),
    "datastore_search_sql": ("sql",),
    "datastore_upsert": ("records", "method", "dry_run", "include_records", "unknown"),
    "datastore_create": ("fields", "records", "primary_key", "aliases", "indexes", "triggers"),
    "datastore_delete": ("filters", "include_deleted_records"),
    "datastore_info": ("resource_id", "include_meta"),
}

MOST_TELLING = {("datastore_search", name) for name in ("q", "filters", "sort", "limit", "offset")}
MOST_TELLING |= {("datastore_search_sql", "sql"), ("datastore_upsert", "records")}


def bodies(resource: str, size: int, others: int, depth: int) -> Iterator[Way]:
    """An action, one of its parameters, what is wrong with that, and the body of the request.

    The most telling ones have values of ``size`` characters, all others of so many; 0 leaves
    them out.
    """
    for action, names in PARAMETERS.items():
        for name in names:
            characters = size if (action, name) in MOST_TELLING else others
            for fault, value in values(characters, depth).items() if characters else ():
                # The last of two keys holds. Without filters the whole table would go.
                given = f'"resource_id": "{resource}", "force": true'
                given += ', "filters": {"_id": 0}' * (action == "datastore_delete")
                given += f', "{name}": {value}'
                yield action, name, fault, f"{{{given}}}"
