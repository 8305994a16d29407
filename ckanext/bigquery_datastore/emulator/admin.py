"""The emulator's own API, under ``/emulator/`` on BigQuery's port; all JSON.

| request | what it does |
|---|---|
| GET health | both services: 200, or 503 with which one is down |
| GET jobs?statement_type=&label=&identity=&since=&limit= | jobs, counted by type; refused ones |
| GET costs?statement_type=&label=&identity=&since= | bytes and dollars of the same: see ``costs`` |
| GET, PUT meter | ``factor``: every table counts as so many times its bytes |
| GET, PUT, DELETE defaults | run time and shards of the jobs to come: see ``Defaults`` |
| PUT tables/PROJECT/DATASET/TABLE | merged into what tables.get shows; null takes away |
| GET, POST, DELETE faults[/ID] | rules of what goes wrong: see ``faults`` |
| GET, DELETE requests?service=&method=&path=&query=&identity=&status= | requests, counted |
| GET, PUT switches | ``public_objects``, ``googlesql`` and so on: see ``Switches`` |
| PUT keys/EMAIL | ``{"key": PEM}``: check this account's signed URLs too |
| PUT denied/EMAIL | a list: what the account lacks, by a bucket's ``testPermissions`` |
| POST token | the token server of the throw-away key |
| POST reset | all of this as at the start; data and jobs stay |

For instance ``PUT defaults {"run_seconds": {"EXPORT_DATA": "2m"}, "shards": 3}`` and
``PUT tables/local/datastore/t {"streamingBuffer": {"estimatedRows": "5"}}``.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import costs
from .bigquery.api import BigQuery
from .bigquery.bodies import read_json
from .bigquery.job import Job
from .bigquery.jobs import Defaults, counts, seconds_of
from .errors import ApiError
from .faults import Application, Faults, Requests, Rule
from .faulty import Faulty
from .identities import Identities, of_request
from .storage.child import StorageChild
from .storage.switches import Switches

_PATTERNS = ("service", "method", "path", "query", "identity", "status")


@dataclass
class Admin:
    """The routes, over the parts that they look at and set."""

    bigquery: BigQuery
    child: StorageChild
    identities: Identities
    faults: Faults
    requests: Requests = field(default_factory=Requests)
    switches: Switches = field(default_factory=Switches)
    at_start: Switches = field(default_factory=Switches)

    def __post_init__(self) -> None:
        self._set_switches(asdict(self.at_start))

    def routes(self) -> list[Route]:
        """All routes under ``/emulator/``."""
        table = "/emulator/tables/{project}/{dataset}/{table}"
        return [
            Route("/emulator/health", self._health),
            Route("/emulator/jobs", self._jobs),
            Route("/emulator/costs", self._costs),
            Route("/emulator/meter", self._meter, methods=["GET", "PUT"]),
            Route("/emulator/defaults", self._defaults, methods=["GET", "PUT", "DELETE"]),
            Route(table, self._table, methods=["PUT"]),
            Route("/emulator/faults", self._all_faults, methods=["GET", "POST", "DELETE"]),
            Route("/emulator/faults/{id:int}", self._one_fault, methods=["DELETE"]),
            Route("/emulator/requests", self._requests, methods=["GET", "DELETE"]),
            Route("/emulator/switches", self._switches, methods=["GET", "PUT"]),
            Route("/emulator/keys/{email}", self._key, methods=["PUT"]),
            Route("/emulator/denied/{email}", self._denied, methods=["PUT"]),
            Route("/emulator/token", self._token, methods=["POST"]),
            Route("/emulator/reset", self._reset, methods=["POST"]),
        ]

    def watched(self, application: Application, service: str) -> Faulty:
        """``application`` with its requests recorded and met by the rules."""
        return Faulty(application, service, self.faults, self.requests, of_request)

    async def _health(self, request: Request) -> Response:
        del request
        parts = {"bigquery": True, "storage": self.child.running}
        words = {name: "ok" if up else "down" for name, up in parts.items()}
        return JSONResponse(words, status_code=200 if all(parts.values()) else 503)

    async def _jobs(self, request: Request) -> Response:
        jobs = self._asked_for(request)
        limit = int(request.query_params.get("limit", 100))
        return JSONResponse(
            {
                "count": len(jobs),
                "counts": counts(jobs),
                "refused": self.bigquery.jobs.refused,
                "jobs": [job.resource() for job in jobs[:limit]],
            }
        )

    def _asked_for(self, request: Request) -> list[Job]:
        """The jobs that a request names by their kind, a label, who started them, and when."""
        query = request.query_params
        kind, label = query.get("statement_type"), query.get("label")
        identity, since = query.get("identity"), float(query.get("since", 0))
        return [
            job
            for job in self.bigquery.jobs.all()
            if (not kind or kind in (job.statement_type, job.kind.upper()))
            and (not label or _has_label(job, label))
            and (not identity or job.user == identity)
            and job.created >= since
        ]

    async def _costs(self, request: Request) -> Response:
        return JSONResponse({**costs.report(self._asked_for(request)), "now": time.time()})

    async def _meter(self, request: Request) -> Response:
        meter = self.bigquery.meter
        if request.method == "PUT":
            meter.factor = float((await read_json(request))["factor"])
        return JSONResponse({"factor": meter.factor})

    async def _defaults(self, request: Request) -> Response:
        jobs = self.bigquery.jobs
        if request.method == "DELETE":
            jobs.defaults = Defaults()
        elif request.method == "PUT":
            body = await read_json(request)
            wanted = body.get("run_seconds", {})
            by_type = wanted if isinstance(wanted, dict) else {"": wanted}
            shards = body.get("shards")
            jobs.defaults = Defaults(
                {kind: seconds_of(str(value)) for kind, value in by_type.items()},
                None if shards is None else int(shards),
            )
        return JSONResponse(asdict(jobs.defaults))

    async def _table(self, request: Request) -> Response:
        names = request.path_params
        key = (names["project"], names["dataset"], names["table"])
        extras = self.bigquery.tables.extras.setdefault(key, {})
        for name, value in (await read_json(request)).items():
            extras.pop(name, None)
            if value is not None:
                extras[name] = value
        return JSONResponse(extras)

    async def _all_faults(self, request: Request) -> Response:
        if request.method == "POST":
            return JSONResponse(asdict(self.faults.add(Rule.of(await read_json(request)))))
        if request.method == "DELETE":
            self.faults.remove()
        return JSONResponse({"faults": self.faults.all()})

    async def _one_fault(self, request: Request) -> Response:
        self.faults.remove(request.path_params["id"])
        return JSONResponse({"faults": self.faults.all()})

    async def _requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.requests.clear()
        given = request.query_params
        wanted = {name: given[name] for name in _PATTERNS if name in given}
        return JSONResponse(self.requests.report(wanted, int(given.get("limit", 200))))

    async def _switches(self, request: Request) -> Response:
        if request.method == "PUT":
            self._set_switches(await read_json(request))
        return JSONResponse(asdict(self.switches))

    def _set_switches(self, wanted: dict[str, Any]) -> None:
        for name, value in wanted.items():
            if name not in asdict(self.switches):
                raise ApiError("invalid", f"There is no switch {name}.")
            setattr(self.switches, name, bool(value))
        self.bigquery.costing.judges = self.switches.googlesql
        self.bigquery.runtime.history.keeps = self.switches.history
        self.bigquery.runtime.updates.is_enforced = self.switches.table_updates

    async def _key(self, request: Request) -> Response:
        body = await read_json(request)
        return JSONResponse(
            {"known": self.identities.know(request.path_params["email"], str(body["key"]))}
        )

    async def _denied(self, request: Request) -> Response:
        lacking: list[str] = await request.json()
        self.identities.denied[request.path_params["email"]] = list(map(str, lacking))
        return JSONResponse(self.identities.denied)

    async def _token(self, request: Request) -> Response:
        return JSONResponse(self.identities.token(await request.body()))

    async def _reset(self, request: Request) -> Response:
        del request
        self.faults.remove()
        self.requests.clear()
        self.bigquery.jobs.defaults = Defaults()
        self.bigquery.jobs.refused.clear()
        self.identities.denied.clear()
        self.bigquery.tables.extras.clear()
        self.bigquery.meter.factor = 1.0
        self._set_switches(asdict(self.at_start))
        return JSONResponse({})


def _has_label(job: Job, label: str) -> bool:
    """``label`` is ``name`` or ``name:value``."""
    name, _, value = label.partition(":")
    labels = job.configuration.get("labels") or {}
    return name in labels and (not value or labels[name] == value)
