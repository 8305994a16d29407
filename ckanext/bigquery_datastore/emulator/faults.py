"""What can go wrong, on demand: rules that meet a request or a job, and a record of requests.

A rule is made of what it meets and what it does::

    {"service": "storage",            # or bigquery, or job
     "method": "POST", "path": "/compose",        # regular expressions, searched
     "identity": "...", "body": "...",            # also regular expressions
     "skip": 0, "times": 1,                       # 0: for ever
     "status": 503, "reason": "backendError", "message": "...", "headers": {"Retry-After": "1"},
     "drop": true,                                # close the connection without a word
     "delay": 2.5,                                # seconds, before anything else
     "truncate": 1000,                            # this many bytes of the answer's body
     "when": "after",                             # the request has its effect, the answer is lost
     "received": 1000,                            # after so many bytes of the request's body
     "stall": 1.5, "stall_after": 1000,           # seconds, after so many bytes of either body
     "corrupt": true}                             # the first byte of the answer's body is another

``"instruction"`` is all of this by a name of Google's storage testbench, such as
``return-503-after-256K`` (https://github.com/googleapis/storage-testbench#forced-failures-supported).

For ``"service": "job"``, ``statement_type`` (a regular expression, also LOAD, EXTRACT, COPY)
says which jobs, and ``share`` (0 to 1) how far through their run time they fail with ``reason``.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import STATUS, ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TRANSPORT = "emulator.transport"  # where our server puts a request's connection
_KEPT_REQUESTS = 50_000


@dataclass
class Rule:
    """One rule; see the module's text for the meaning of each part."""

    service: str = "storage"
    method: str = ""
    path: str = ""
    identity: str = ""
    body: str = ""
    statement_type: str = ""
    skip: int = 0
    times: int = 1
    status: int | None = None
    reason: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    delay: float = 0.0
    truncate: int | None = None
    when: str = "before"
    received: int = 0
    stall: float = 0.0
    stall_after: int = 0
    corrupt: bool = False
    instruction: str = ""
    share: float = 1.0
    id: int = 0
    met: int = 0

    @classmethod
    def of(cls, body: dict[str, Any]) -> Rule:
        """A rule from its JSON. Raises ApiError ``invalid``."""
        try:
            meant = instructed(str(body.get("instruction", "")))
            rule = cls(**{**meant, **{name: body[name] for name in body if name != "id"}})
            for pattern in (rule.method, rule.path, rule.identity, rule.body, rule.statement_type):
                re.compile(pattern)
        except (TypeError, re.error) as error:
            raise ApiError("invalid", f"Not a rule: {error}") from error
        if rule.service not in ("storage", "bigquery", "job"):
            raise ApiError("invalid", "service is one of storage, bigquery, job.")
        if rule.when not in ("before", "after"):
            raise ApiError("invalid", "when is before or after.")
        return rule

    @property
    def error(self) -> ApiError:
        """The refusal that the rule stands for."""
        reason = self.reason or {
            403: "accessDenied",
            404: "notFound",
            429: "rateLimitExceeded",
        }.get(self.status or 503, "backendError")
        status = self.status or STATUS.get(reason, 503)
        return ApiError(reason, self.message or f"Injected: {reason}", status=status)

    def meets(self, text: dict[str, str]) -> bool:
        """Whether every pattern of the rule is found."""
        return all(re.search(getattr(self, name), value) for name, value in text.items())


# The testbench's names, and what they say in a rule's terms.
_INSTRUCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    r"return-(\d+)": lambda status: {"status": int(status)},
    r"return-(\d+)-after-(\d+)K": lambda status, size: {
        "status": int(status),
        "received": int(size) * 1024,
    },
    r"return-reset-connection": lambda: {"drop": True},
    r"return-broken-stream": lambda: {"truncate": 4},
    r"return-broken-stream-after-(\d+)K": lambda size: {"truncate": int(size) * 1024},
    r"return-broken-stream-final-chunk-after-(\d+)B": lambda size: {
        "drop": True,
        "received": int(size),
    },
    r"stall-for-(\d+)s-after-(\d+)K": lambda seconds, size: {
        "stall": float(seconds),
        "stall_after": int(size) * 1024,
    },
    r"return-corrupted-data": lambda: {"corrupt": True},
}


def instructed(name: str) -> dict[str, Any]:
    """The parts of a rule that an instruction stands for. Raises ApiError ``invalid``."""
    if not name:
        return {}
    for pattern, parts in _INSTRUCTIONS.items():
        if found := re.fullmatch(pattern, name):
            return parts(*found.groups())
    raise ApiError("invalid", f"The testbench's instruction {name} is not known here.")


class Faults:
    """The rules in force, in the order in which they were added."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._next = 1

    def add(self, rule: Rule) -> Rule:
        """Put a rule into force."""
        with self._lock:
            rule.id, self._next = self._next, self._next + 1
            self._rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> None:
        """Drop one rule, or all."""
        with self._lock:
            self._rules = [r for r in self._rules if rule_id is not None and r.id != rule_id]

    def all(self) -> list[dict[str, Any]]:
        """The rules with how often each was met."""
        return [asdict(rule) for rule in self._rules]

    def take(self, service: str, **text: str) -> Rule | None:
        """The first rule that meets this, counted as met; None where nothing goes wrong."""
        with self._lock:
            for rule in self._rules:
                used_up = rule.times and rule.met >= rule.skip + rule.times
                if rule.service != service or used_up or not rule.meets(text):
                    continue
                rule.met += 1
                return rule if rule.met > rule.skip else None
        return None

    def reads_bodies(self, service: str) -> bool:
        """Whether a rule looks into the bodies of this service's requests."""
        return any(rule.service == service and rule.body for rule in self._rules)


@dataclass(frozen=True)
class Seen:
    """One request that was answered, or not."""

    service: str
    method: str
    path: str
    query: str
    identity: str
    status: int  # 0: the connection was dropped
    began: float  # on the emulator's monotonic clock
    seconds: float
    sent: int  # bytes of the answer's body
    rule: int | None
    range: str


class Requests:
    """The requests of both services, the latest 50,000, for tests to count."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque(maxlen=_KEPT_REQUESTS)

    def add(self, seen: Seen) -> None:
        """Remember one."""
        self._seen.append(seen)

    def clear(self) -> None:
        """Forget all."""
        self._seen.clear()

    def report(self, wanted: dict[str, str], limit: int = 200) -> dict[str, Any]:
        """How many there were, by method and path, and the latest; ``wanted`` are patterns."""
        found = [
            seen
            for seen in list(self._seen)
            if all(re.search(pattern, str(getattr(seen, key))) for key, pattern in wanted.items())
        ]
        return {
            "count": len(found),
            "counts": Counter(f"{seen.method} {seen.path}" for seen in found),
            "identities": Counter(seen.identity for seen in found),
            "requests": [asdict(seen) for seen in found[-limit:]],
        }
