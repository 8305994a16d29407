"""What a process asks Google, counted where its requests leave it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass
class Calls:
    """Requests as (began, ended). Looks at a job that runs are of the request that began it."""

    times: list[tuple[float, float]] = field(default_factory=list)
    looks: list[tuple[float, float]] = field(default_factory=list)

    @property
    def in_a_row(self) -> int:
        """How many of them had to wait for the end of another one."""
        ended, found = 0.0, 0
        for began, end in sorted(self.times, key=lambda call: call[1]):
            if began >= ended:
                ended, found = end, found + 1
        return found

    def seconds(self, since: float, until: float) -> float:
        """How much of this time somebody waited for an answer."""
        ended, found = since, 0.0
        for began, end in sorted(self.times + self.looks):
            found += max(0.0, min(end, until) - max(began, ended))
            ended = max(ended, min(end, until))
        return found


@contextmanager
def calls() -> Iterator[Calls]:
    """Those that are made meanwhile, by whatever thread."""
    from requests import adapters

    found, adapter_class = Calls(), cast("Any", adapters.HTTPAdapter)
    send = adapter_class.send

    def counted(adapter: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        # CKAN's own question, by the same library.
        if "/solr/" in request.url:
            return send(adapter, request, *args, **kwargs)
        began = time.monotonic()
        try:
            return send(adapter, request, *args, **kwargs)
        finally:
            (found.looks if _is_look(request) else found.times).append((began, time.monotonic()))

    adapter_class.send = counted
    try:
        yield found
    finally:
        adapter_class.send = send


def _is_look(request: Any) -> bool:
    return request.method == "GET" and ("/queries/" in request.url or "/jobs/" in request.url)
