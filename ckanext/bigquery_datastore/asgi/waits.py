"""Under ASGI, the waits that CKAN has allowed a moment ago: who comes back to one waits on.

A request of CKAN's costs ten times what a wait does, and a crowd that waits for a long export comes
back again and again. All that its members learn without CKAN is that the export still runs, which
they knew. CKAN is asked before anybody is told of its end, and after ``SECONDS`` in any case.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from ckanext.bigquery_datastore import places
from ckanext.bigquery_datastore.dump import watch
from ckanext.bigquery_datastore.errors import Crowded
from ckanext.bigquery_datastore.handover import Handover, Streamed, Wait
from ckanext.bigquery_datastore.web import answers

# https://asgi.readthedocs.io/en/latest/specs/main.html
Message = MutableMapping[str, Any]

# For so long after its decision CKAN is not asked again whether the same request may wait.
SECONDS = 60
_MOST = 10_000

_HOP = re.compile(rb"\b%s=(\d{1,3})$" % answers.HOP.encode())

# What proxies tell of the way that a request has taken; it is another for each of a crowd.
_OF_THE_WAY = {
    b"forwarded",
    b"x-forwarded-for",
    b"x-real-ip",
    b"x-request-id",
    b"traceparent",
    b"tracestate",
    b"via",
}


@dataclass(frozen=True)
class _Allowed:
    at: float
    work: Wait
    answer: list[Message]


class Waits:
    """Of one process."""

    def __init__(self) -> None:
        self._allowed: OrderedDict[bytes, _Allowed] = OrderedDict()

    def decided(self, scope: Message, work: Wait | Streamed | None, answer: list[Message]) -> None:
        """Note whether CKAN has let this request wait, and come back by redirect: ``answer``."""
        now, name = time.monotonic(), _name(scope)
        self._allowed.pop(name, None)
        if isinstance(work, Wait) and _may_be_repeated(answer):
            self._allowed[name] = _Allowed(now, work, answer)
        while self._allowed:
            oldest = next(iter(self._allowed))
            if len(self._allowed) <= _MOST and now - self._allowed[oldest].at <= SECONDS:
                break
            del self._allowed[oldest]

    def resume(self, scope: Message, handed: Handover) -> list[Message]:
        """Leave the same wait to the front once more.

        :returns: the answer if the export still runs at its end; empty where CKAN has to be asked
        """
        hop = _hop(scope) if scope["method"] == "GET" else 0
        allowed = self._allowed.get(_name(scope)) if 0 < hop < answers.MAX_HOPS else None
        if allowed is None or time.monotonic() - allowed.at > SECONDS:
            return []
        if watch.seen(allowed.work.plan) is None:
            # Nobody waits for it here any more: it may have ended.
            return []
        try:
            place = places.WAITING.take(is_back=True)
        except Crowded:
            return []
        handed.leave(replace(allowed.work, seconds=answers.wait_without_thread()), place)
        head, *body = allowed.answer
        headers = [
            (name, _HOP.sub(b"%s=%d" % (answers.HOP.encode(), hop + 1), value))
            if name.lower() == b"location"
            else (name, value)
            for name, value in head["headers"]
        ]
        return [{**head, "headers": headers}, *body]


def _may_be_repeated(answer: list[Message]) -> bool:
    """Whether all that an answer does is to send its client back: a cookie is for one alone."""
    return bool(answer) and (
        answer[0]["status"] == 302
        and all(name.lower() != b"set-cookie" for name, _ in answer[0]["headers"])
    )


def _hop(scope: Message) -> int:
    found = _HOP.search(scope["query_string"])
    return int(found[1]) if found else 0


def _name(scope: Message) -> bytes:
    """One request is the same as another if CKAN could not tell them apart."""
    query = _HOP.sub(b"", scope["query_string"]).rstrip(b"&")
    headers = sorted(
        (name, value) for name, value in scope["headers"] if name.lower() not in _OF_THE_WAY
    )
    told = (scope["method"], scope.get("root_path"), scope["scheme"], scope["path"], query, headers)
    return hashlib.sha256(repr(told).encode()).digest()
