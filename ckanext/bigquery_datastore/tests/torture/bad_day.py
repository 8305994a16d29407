"""What can go wrong with each request to Google, and what a visitor may then be answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What goes wrong every time, for as long as it lasts.
LASTING: dict[str, dict[str, Any]] = {
    "429": {"status": 429},
    "500": {"status": 500, "reason": "backendError"},
    "503": {"status": 503},
    "401": {"status": 401, "reason": "authError"},
    "403, quota": {"status": 403, "reason": "quotaExceeded"},
    "403, rate": {"status": 403, "reason": "rateLimitExceeded"},
    "403, forbidden": {"status": 403, "reason": "forbidden"},
    "no answer": {"drop": True},
    "hangs": {"delay": 30},
    "slow": {"stall": 0.2, "stall_after": 10},
    "cut": {"truncate": 20},
}

# What goes wrong once: mostly nobody hears of it.
ONCE: dict[str, dict[str, Any]] = {
    "429, once": {"status": 429},
    "503, once": {"status": 503},
    "no answer, once": {"drop": True},
    "cut, once": {"truncate": 20},
    "done, and the answer is lost": {"drop": True, "when": "after"},
    "done, and answered 503": {"status": 503, "when": "after"},
    "done, and answered Conflict": {"status": 409, "reason": "duplicate", "when": "after"},
}

# https://cloud.google.com/bigquery/docs/error-messages#errortable
REASONS = (
    *("accessDenied", "attributeError", "backendError", "billingNotEnabled", "blocked"),
    *("billingTierLimitExceeded", "bytesBilledLimitExceeded", "duplicate", "internalError"),
    *("invalid", "invalidQuery", "invalidUser", "jobBackendError", "jobInternalError"),
    *("jobRateLimitExceeded", "notFound", "notImplemented", "proxyAuthenticationRequired"),
    *("quotaExceeded", "rateLimitExceeded", "resourceInUse", "resourcesExceeded"),
    *("responseTooLarge", "stopped", "tableUnavailable", "timeout"),
)


@dataclass(frozen=True, order=True)
class Call:
    """A kind of request that a healthy run makes; its texts are patterns, ``ID`` the resource's.

    ``is_told_apart``: whether the requests of one resource can be told from those of others.
    """

    service: str
    method: str
    path: str
    is_told_apart: bool

    def rule(self, id: str) -> dict[str, Any]:
        """Of these requests, those for this resource."""
        rule = {
            "service": self.service,
            "method": f"^{self.method}$",
            "path": self.path.replace("ID", re.escape(id)),
        }
        if self.is_told_apart and "ID" not in self.path:
            rule["body"] = re.escape(id)
        return rule


def calls(seen: Iterable[Mapping[str, Any]], id: str, *, are_named: bool = True) -> list[Call]:
    """The kinds of requests among these, of a run for one resource.

    :param are_named: whether what is sent names the resource
    """
    found = set()
    for request in seen:
        path = re.escape(request["path"]).replace(re.escape(id), "ID")
        path = re.sub(r"(?<=/)(ckan_|job_|_ckan_)[\w\\-]+|(?<=_)[0-9a-f]{32}", "[^/]+", path)
        path = re.sub(r"(?<=/)[0-9a-f\\-]{10,}(?=/)|(?<=/all\\-)[0-9a-f]{16}", "[^/]+", path)
        if id in request["query"]:
            path += r"\?.*ID"
        else:
            path += r"($|\?)"
        is_told_apart = "ID" in path or (are_named and request["method"] != "GET")
        found.add(Call(request["service"], request["method"], f"^{path}", is_told_apart))
    return sorted(found)


@dataclass(frozen=True)
class Answer:
    """What a visitor got. ``is_right``: all of what was asked for."""

    status: int
    is_right: bool
    retry_after: str | None
    seconds: float
    body: str = ""
    is_broken: bool = False

    def complaint(self, most_seconds: float, *, is_googles: bool) -> str:
        """What is wrong with it; nothing where the visitor has no reason to.

        :param is_googles: whether no visitor can be told that the fault is theirs
        """
        if self.seconds > most_seconds:
            return f"it took {self.seconds:.1f} s"
        if "Traceback" in self.body:
            return "a traceback is in the answer"
        if self.is_broken:
            return ""  # the connection ended before the file did, and says so
        if self.status < 400:
            return "" if self.is_right else f"{self.status}, and it is not what was asked for"
        if self.status == 500:
            return "500"
        if (self.status > 500 or self.status == 429) and not self.retry_after:
            return f"{self.status} without Retry-After"
        if is_googles and self.status < 429 and "took too long" not in self.body:
            return f"{self.status}, though it is Google's fault"
        return ""


class Watch:
    """How long something takes."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
