"""Which scripts of other sites may read a bucket's objects: the bucket's ``cors``, applied.

https://cloud.google.com/storage/docs/cross-origin: where origin and method are in one of the
rules, the answer says so; where they are in none it comes without such headers, and the browser
keeps it from the script. Pure.
"""

from __future__ import annotations

from typing import Any

from .backend import Headers

Rule = dict[str, Any]


def of_answer(rules: list[Rule], origin: str | None, method: str) -> Headers:
    """The headers that an answer gets for a script's request."""
    rule = _met(rules, origin, method)
    if rule is None or origin is None:
        return []
    return _named(
        {
            "access-control-allow-origin": _allowed(rule, origin),
            "access-control-expose-headers": ", ".join(rule.get("responseHeader") or []),
            "vary": "Origin",
        }
    )


def of_preflight(rules: list[Rule], origin: str | None, method: str, asked: str) -> Headers:
    """The headers that answer a browser's question before a request with the headers ``asked``."""
    rule = _met(rules, origin, method)
    if rule is None or origin is None:
        return []
    known = {name.lower() for name in rule.get("responseHeader") or []}
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    if "*" not in known and not {name.lower() for name in wanted} <= known:
        return []
    return _named(
        {
            "access-control-allow-origin": _allowed(rule, origin),
            "access-control-allow-methods": ", ".join(rule.get("method") or []),
            "access-control-allow-headers": ", ".join(wanted),
            "access-control-max-age": str(rule.get("maxAgeSeconds", 0)),
            "vary": "Origin",
        }
    )


def _met(rules: list[Rule], origin: str | None, method: str) -> Rule | None:
    for rule in rules:
        origins, methods = rule.get("origin") or [], rule.get("method") or []
        if ({"*", origin} & set(origins)) and ({"*", method} & set(methods)):
            return rule
    return None


def _allowed(rule: Rule, origin: str) -> str:
    return "*" if "*" in rule["origin"] else origin


def _named(headers: dict[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items() if value]
