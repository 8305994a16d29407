"""Sends hostile requests to CKAN in this process, looks at each answer, and counts.

    python -m ckanext.bigquery_datastore.tests.torture.fuzzing INI '{"seed": 1, …}' < targets.json

does it in a process of its own and prints what came of it: two cores need two processes.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from hypothesis import HealthCheck, Phase, given, seed, settings
from werkzeug.http import parse_options_header

from ckanext.bigquery_datastore.tests.torture import asking, sent
from ckanext.bigquery_datastore.tests.torture.asking import Asked
from ckanext.bigquery_datastore.tests.torture.marked import SCRIPT, Targets

_ROUND = 40
_MOST_FAULTS = 12

# How many more requests are made of each that hypothesis makes, which takes its time.
_CROSSED = 4

# Of the server's side, never of a visitor's.
_SECRETS = re.compile(
    r"Traceback \(most recent|gserviceaccount|PRIVATE KEY|/site-packages/|File \""
)


@dataclass
class Outcome:
    """How many requests were sent, what they were answered, and what was wrong with which."""

    asked: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    given: set[str] = field(default_factory=set)

    def note(self, asked: Asked, status: int, faults: list[str]) -> None:
        self.asked += 1
        self.statuses[str(status)] = self.statuses.get(str(status), 0) + 1
        self.given |= sent.given_in(*texts_of(asked))
        if len(self.faults) < _MOST_FAULTS:
            self.faults += [f"{fault}\n    {asked}" for fault in faults]

    def join(self, other: Outcome) -> None:
        self.asked += other.asked
        self.statuses = dict(Counter(self.statuses) + Counter(other.statuses))
        self.faults += other.faults
        self.given |= other.given


def texts_of(asked: Asked) -> Iterator[str]:
    """The texts of a request as they are meant."""
    yield unquote_plus(asked.path, errors="surrogatepass")
    for part in asked.query.split("&"):
        yield from _in_json(unquote_plus(part.partition("=")[2], errors="surrogatepass"))
    if asked.body is not None:
        yield from _strings(json.loads(asked.body))


def _in_json(text: str) -> Iterator[str]:
    yield text
    try:
        yield from _strings(json.loads(text))
    except (ValueError, RecursionError):
        return


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        # In SQL and in lists, quotes are written twice.
        yield from {value, value.replace("''", "'"), value.replace('""', '"')}
        if value[:1] in "[{":
            yield from _in_json(value)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(name)
            yield from _strings(inner)


def faults_of(answer: Any, own_hosts: set[str]) -> list[str]:
    """What is wrong with an answer, whatever was asked."""
    found, status, headers = [], answer.status_code, answer.headers
    if status >= 500 and not (status == 503 and "Retry-After" in headers):
        found.append(f"status {status}: {answer.text[:300]}")
    if any(re.search(r"[\r\n\0]", f"{name}{value}") for name, value in headers):
        found.append(f"a line's end in a header: {headers}")
    if "zz=1" in headers.get("Set-Cookie", "") or "X-Bigquery-Datastore-Handover" in headers:
        found.append(f"a header that was asked for: {headers}")
    for name in ("Location", "X-Accel-Redirect", "Content-Location"):
        place = urlsplit(headers.get(name, ""))
        if place.scheme not in ("", "http") or place.netloc not in own_hosts | {""}:
            found.append(f"{name} leads elsewhere: {headers[name]}")
    _, parts = parse_options_header(headers.get("Content-Disposition", ""))
    if set(parts) - {"filename"} or re.search(r"[/\\]|^\.", parts.get("filename") or ""):
        found.append(f"Content-Disposition: {headers['Content-Disposition']}")
    body = answer.get_data(as_text=True)
    if secret := _SECRETS.search(body):
        found.append(f"tells of {secret[0]}")
    if "html" in headers.get("Content-Type", "") and SCRIPT in body:
        found.append("a script stands in a page")
    return found


def run(app: Any, targets: Targets, start: int, most: int, seconds: float) -> Outcome:
    """Send requests until there were so many, or so many seconds have passed."""
    outcome, client = (
        Outcome(given=sent.given_in(*targets.columns)),
        app.test_client(use_cookies=False),
    )
    hosts, end, number = own_hosts(), time.monotonic() + seconds, start
    strategy = asking.requests(app.flask_app, targets)

    chance = random.Random(start)
    earlier: dict[str, list[Asked]] = {}

    def send(drawn: Asked) -> None:
        known = earlier.setdefault(drawn.to, [])
        others = chance.sample(known, min(len(known), _CROSSED))
        known.append(drawn)
        for asked in (drawn, *(asking.crossed(drawn, other) for other in others)):
            if time.monotonic() < end and outcome.asked < most:
                send_one(asked)

    def send_one(asked: Asked) -> None:
        try:
            answer = _sent(client, asked)
            outcome.note(asked, answer.status_code, faults_of(answer, hosts))
            answer.close()
        except Exception:  # noqa: BLE001 - whatever it is, a visitor has made it
            outcome.note(asked, 500, [traceback.format_exc(limit=-4)])

    while time.monotonic() < end and outcome.asked < most:
        seeded(send, strategy, number)
        number += 1
    return outcome


def seeded(work: Callable[[Any], None], strategy: Any, number: int, examples: int = _ROUND) -> None:
    """Do it for so many examples of a strategy."""
    quiet = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(quiet(given(strategy)(work)))()


def own_hosts() -> set[str]:
    import os

    from ckan.plugins import toolkit as tk

    storage = os.environ["STORAGE_EMULATOR_HOST"]
    return {urlsplit(tk.config["ckan.site_url"]).netloc, urlsplit(storage).netloc}


def _sent(client: Any, asked: Asked) -> Any:
    return client.open(
        asked.path,
        method=asked.method,
        query_string=asked.query,
        headers=list(asked.headers),
        data=asked.body,
        follow_redirects=False,
    )


def main() -> None:
    from ckan.cli import load_config
    from ckan.config.middleware import make_app
    from ckan.tests.helpers import CKANTestApp

    ini, told = sys.argv[1:]
    config = load_config(ini)
    given = json.loads(told)
    config.update(given.pop("options"))
    targets = Targets(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.pop("targets").items()
        }
    )
    outcome = run(CKANTestApp(make_app(config)), targets, **given)
    sys.stdout.write(json.dumps({**asdict(outcome), "given": sorted(outcome.given)}))


if __name__ == "__main__":
    main()
