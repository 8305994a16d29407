"""What CKAN leaves to the ASGI front for one request: a wait, or a stream.

CKAN decides as always, and names in a header of its answer what it would wait for, or stream. The
front (``asgi``) does it. An export that runs on is answered as CKAN has said; for any other
outcome that has to be told, CKAN is asked the same once more: who may read is decided anew.

The header holds a secret of this one request. It is good in CKAN's own answer to it alone; what a
client sends is never looked at, and no header of this name leaves.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckanext.bigquery_datastore.dump.engine import Engine
    from ckanext.bigquery_datastore.dump.plan import DumpPlan
    from ckanext.bigquery_datastore.dump.state import Ready, Running
    from ckanext.bigquery_datastore.dump.stream import Part, Patience
    from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange
    from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
    from ckanext.bigquery_datastore.places import Place

HEADER = "X-Bigquery-Datastore-Handover"

# Where the front puts it, in the request's scope.
KEY = "ckanext.bigquery_datastore"


@dataclass(frozen=True)
class Wait:
    """For an export that has begun, for so many seconds."""

    engine: Engine
    plan: DumpPlan
    state: Running
    seconds: float


@dataclass(frozen=True)
class Streamed:
    """The body of an answer, rewritten on its way or as it is."""

    target: str
    parts: Sequence[Part]
    span: ByteRange | None
    patience: Patience
    rewrite: Callable[[Iterator[bytes]], Iterator[bytes]] | None


class Handover:
    """One request's: ``work`` is what the front is to do, ``outcome`` what came of a wait."""

    def __init__(self) -> None:
        self.work: Wait | Streamed | None = None
        self._began = time.monotonic()
        self._outcome: tuple[str, Ready | Running | BigQueryDatastoreError] | None = None
        self._token = ""
        self._place: Place | None = None

    def age(self) -> float:
        """Seconds since the request came: it may have waited for a thread of CKAN's."""
        return time.monotonic() - self._began

    def leave(self, work: Wait | Streamed, place: Place) -> Mapping[str, str]:
        """The header that hands ``work`` over, and with it the place that was taken for it."""
        self.end()
        self.work, self._place = work, place
        self._token = secrets.token_urlsafe(16)
        return {HEADER: self._token}

    def takes(self, token: str) -> bool:
        """Whether the work was left by the answer with this header."""
        return bool(self._token) and secrets.compare_digest(token.encode(), self._token.encode())

    def came(self, target: str, outcome: Ready | Running | BigQueryDatastoreError) -> None:
        """Note what came of the work for the file of this name."""
        self._outcome = target, outcome

    def outcome_of(self, plan: DumpPlan) -> Ready | Running | None:
        """What came of it, when CKAN is asked once more; None where the table has changed since.

        :raises BigQueryDatastoreError: it failed
        """
        target, outcome = self._outcome or ("", None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if target == plan.target else None

    def end(self) -> None:
        """The work is done, or nobody will do it."""
        self.work, self._token = None, ""
        place, self._place = self._place, None
        if place is not None:
            place.leave()


def of(environ: Mapping[str, Any]) -> Handover | None:
    """The handover of a request that came through the front."""
    found = environ.get("asgi.scope", {}).get(KEY)
    return found if isinstance(found, Handover) else None
