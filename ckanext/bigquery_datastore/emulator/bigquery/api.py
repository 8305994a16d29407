"""BigQuery's HTTP API: jobs, queries and uploads are ours, the rest bqemulator's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bqemulator.storage.arrow_bridge import arrow_table_to_bq_rows
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import STATUS, ApiError
from ..faults import Application, Faults, Receive, Scope, Send
from ..identities import of_request
from ..storage.client import StorageClient
from .access import Access
from .billing import Meter
from .bodies import read_json
from .costing import Costing
from .datasets_api import Datasets
from .exports import Exporter
from .job import Job
from .jobs import JOB_ID, Jobs, new_id
from .limits import REQUEST_BYTES
from .loads import Loader
from .queries import Queries, statement_type
from .references import tables_of
from .runtime import Runtime
from .tables_api import Tables
from .uploads import Uploads

if TYPE_CHECKING:
    from .googlesql.judge import Judge

_AT_ONCE_SECONDS = 2.0  # how long jobs.insert waits for a job without a run time
_LONG_POLL_SECONDS = 10.0
_API = "/bigquery/v2/projects/{project}"
_KINDS = ("query", "load", "extract", "copy")


class BigQuery:
    """The emulated BigQuery over one runtime."""

    def __init__(
        self,
        runtime: Runtime,
        storage: StorageClient,
        faults: Faults,
        judge: Judge | None = None,
    ) -> None:
        self.runtime = runtime
        self.jobs = Jobs(runtime.data, runtime.engine, faults)
        exporter = Exporter(runtime.context, runtime.engine, storage)
        self.meter = Meter(runtime.context)
        self.costing = Costing(runtime.context, self.meter, judge)
        access = Access(runtime.catalog)
        self.queries = Queries(runtime, exporter, self.costing, access)
        self._loader = Loader(runtime, storage)
        self.tables = Tables(runtime, read_json, self.meter, access)
        self._datasets = Datasets(runtime, read_json, access)
        self._uploads = Uploads(runtime.data / "uploads")
        self._work: dict[str, Callable[[Job], None]] = {
            "query": self.queries.run,
            "load": self._loader.run,
            "extract": exporter.extract,
            "copy": self._copy,
        }

    def routes(self) -> list[Route]:
        """Our routes; what none of them takes goes to bqemulator."""
        return [
            Route(f"{_API}/jobs", self._insert, methods=["POST"]),
            Route(f"{_API}/jobs", self._list, methods=["GET"]),
            Route(f"{_API}/jobs/{{job}}", self._get, methods=["GET"]),
            Route(f"{_API}/jobs/{{job}}/cancel", self._cancel, methods=["POST"]),
            Route(f"{_API}/jobs/{{job}}/delete", self._delete, methods=["DELETE"]),
            Route(f"{_API}/queries", self._query, methods=["POST"]),
            Route(f"{_API}/queries/{{job}}", self._results, methods=["GET"]),
            Route(f"/upload{_API}/jobs", self._upload, methods=["POST"]),
            Route(f"/upload{_API}/jobs", self._upload_part, methods=["PUT"]),
            *self.tables.routes(),
            *self._datasets.routes(),
            Route("/{rest:path}", self._other, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    # -- jobs ------------------------------------------------------------------------------

    def _new_job(self, project: str, body: dict[str, Any], file: Path | None = None) -> Job:
        configuration = body.get("configuration") or {}
        kind = next((name for name in _KINDS if name in configuration), "")
        if not kind:
            raise ApiError("required", "Required parameter is missing: configuration")
        reference = body.get("jobReference") or {}
        job_id = reference.get("jobId") or new_id()
        if not JOB_ID.fullmatch(job_id):
            raise ApiError("invalid", f"Invalid job ID: {job_id}")
        job = Job(project, job_id, "", kind, configuration, file=file)
        configuration["jobType"] = kind.upper()
        if kind == "query":
            job.statement_type = statement_type(str(job.settings.get("query", "")))
            job.settings.setdefault("useLegacySql", False)
        job.location = str(reference.get("location") or self._location(job))
        return job

    def _location(self, job: Job) -> str:
        """Where the job's tables are; US where it names none."""
        if job.kind == "query":
            default = job.settings.get("defaultDataset") or {}
            datasets = [default.get("datasetId")] + [
                name.dataset for name in tables_of(job.project, str(job.settings.get("query", "")))
            ]
        else:
            table = job.settings.get("destinationTable") or job.settings.get("sourceTable") or {}
            datasets = [table.get("datasetId")]
        for dataset in filter(None, datasets):
            if found := self.runtime.context.catalog.get_dataset(job.project, dataset):
                return str(found.location)
        return "US"

    def _submit(self, job: Job, who: str) -> None:
        job.user = who
        self.jobs.add(job)
        self.jobs.start(job, self._work[job.kind])

    async def _insert(self, request: Request) -> Response:
        body = await read_json(request, REQUEST_BYTES)
        job = self._new_job(request.path_params["project"], body)
        return JSONResponse(await self._started(job, request))

    async def _started(self, job: Job, request: Request) -> dict[str, Any]:
        """Start the job; one without a run time is waited for a little."""
        if job.configuration.get("dryRun"):
            job.user = of_request(request.scope)
            await self.runtime.in_thread(lambda: self.queries.dry_run(job))
            job.state, job.id = "DONE", job.id
            return job.resource()
        self._submit(job, of_request(request.scope))
        if job.run_seconds <= 0:
            await _wait(job.finished, _AT_ONCE_SECONDS)
        return job.resource()

    async def _list(self, request: Request) -> Response:
        project, query = request.path_params["project"], request.query_params
        states = {state.upper() for state in query.getlist("stateFilter")}
        # Milliseconds (https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list).
        earliest, latest = (
            float(query.get(f"{which}CreationTime") or limit)
            for which, limit in (("min", "-inf"), ("max", "inf"))
        )
        jobs = [
            job
            for job in self.jobs.all()
            if job.project == project
            and not job.is_short
            and (not states or job.state in states)
            and earliest <= 1000 * job.created <= latest
        ]
        if query.get("parentJobId"):
            jobs = []
        first = int(query.get("pageToken") or 0)
        last = first + int(query.get("maxResults") or 50)
        page = [{**job.resource(), "state": job.state} for job in jobs[first:last]]
        body: dict[str, Any] = {"kind": "bigquery#jobList", "etag": "jobs", "jobs": page}
        if last < len(jobs):
            body["nextPageToken"] = str(last)
        return JSONResponse(body)

    def _job(self, request: Request) -> Job:
        return self.jobs.get(
            request.path_params["project"],
            request.path_params["job"],
            request.query_params.get("location"),
        )

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._job(request).resource())

    async def _cancel(self, request: Request) -> Response:
        job = self._job(request)
        job.cancel()
        return JSONResponse({"kind": "bigquery#jobCancelResponse", "job": job.resource()})

    async def _delete(self, request: Request) -> Response:
        self.jobs.remove(self._job(request))
        return Response(status_code=204)

    # -- queries ---------------------------------------------------------------------------

    async def _query(self, request: Request) -> Response:
        project, body = request.path_params["project"], await read_json(request, REQUEST_BYTES)
        in_query = (
            "query queryParameters parameterMode defaultDataset useLegacySql useQueryCache "
            "maximumBytesBilled createSession connectionProperties destinationEncryption"
        )
        configuration: dict[str, Any] = {
            "query": {name: body[name] for name in in_query.split() if name in body}
        }
        for name in ("labels", "dryRun", "jobTimeoutMs"):
            if name in body:
                configuration[name] = body[name]
        job = self._new_job(
            project,
            {"configuration": configuration, "jobReference": {"location": body.get("location")}},
        )
        if configuration.get("dryRun"):
            await self._started(job, request)
            return JSONResponse({**self._page(job, 0, 0), "jobReference": job.reference})
        self._submit(job, of_request(request.scope))
        timeout = float(body.get("timeoutMs") or _LONG_POLL_SECONDS * 1000) / 1000
        wanted = int(body.get("maxResults") or 100_000)
        optional = body.get("jobCreationMode") == "JOB_CREATION_OPTIONAL"
        return await self._answer(job, timeout, 0, wanted, optional=optional)

    async def _results(self, request: Request) -> Response:
        job, query = self._job(request), request.query_params
        timeout = float(query.get("timeoutMs") or _LONG_POLL_SECONDS * 1000) / 1000
        first = int(query.get("pageToken") or query.get("startIndex") or 0)
        wanted = query.get("maxResults")
        return await self._answer(job, timeout, first, 100_000 if wanted is None else int(wanted))

    async def _answer(
        self, job: Job, timeout: float, first: int, wanted: int, *, optional: bool = False
    ) -> Response:
        """A page of the result. ``optional``: what fits into it is no job, as far as one can see
        (https://cloud.google.com/bigquery/docs/running-queries#optional-job-creation)."""
        await _wait(job.finished, timeout)
        job.is_short = optional and job.state == "DONE"
        if job.error:
            reason = job.error["reason"]
            error = ApiError(reason, job.error["message"], location=job.error.get("location", ""))
            body = error.body() | ({} if job.is_short else {"jobReference": job.reference})
            return JSONResponse(body, status_code=STATUS.get(reason, 400))
        page = await self.runtime.in_thread(lambda: self._page(job, first, wanted))
        job.is_short = job.is_short and "pageToken" not in page
        if job.is_short:
            page |= {"queryId": page.pop("jobReference")["jobId"], "location": job.location}
        elif optional:
            code = "LARGE_RESULTS" if job.state == "DONE" else "LONG_RUNNING"
            page["jobCreationReason"] = {"code": code}
        return JSONResponse(page)

    def _page(self, job: Job, first: int, wanted: int) -> dict[str, Any]:
        """A page of a query's rows, or the word that it still runs."""
        query = job.statistics.get("query") or {}
        body: dict[str, Any] = {
            "kind": "bigquery#getQueryResultsResponse",
            "etag": f"{job.id}-{job.state}",
            "jobReference": job.reference,
            "jobComplete": job.state == "DONE",
            "totalBytesProcessed": query.get("totalBytesProcessed", "0"),
            "totalBytesBilled": query.get("totalBytesBilled", "0"),
            "cacheHit": query.get("cacheHit", False),
        }
        if job.state != "DONE":
            return body
        for name in ("statementType", "numDmlAffectedRows", "ddlOperationPerformed"):
            if query.get(name) is not None:
                body[name] = query[name]
        body["schema"] = {"fields": job.schema or []}
        body["totalRows"] = str(job.rows.num_rows if job.rows is not None else 0)
        if job.rows is not None and wanted:
            body["rows"] = arrow_table_to_bq_rows(job.rows, offset=first, limit=wanted)
            if first + wanted < job.rows.num_rows:
                body["pageToken"] = str(first + wanted)
        return body

    # -- copy, uploads and the rest --------------------------------------------------------

    def _copy(self, job: Job) -> None:
        from bqemulator.jobs.executor import execute_copy_job

        job.wait_until(1)
        with self.runtime.engine.writing():
            asyncio.run(
                execute_copy_job(job.project, job.id, job.configuration, self.runtime.context)
            )

    async def _upload(self, request: Request) -> Response:
        project = request.path_params["project"]
        if request.query_params.get("uploadType") == "resumable":
            upload_id = self._uploads.begin(project, await read_json(request))
            location = request.url.include_query_params(upload_id=upload_id)
            return Response(status_code=200, headers={"location": str(location)})
        body, file = await self._uploads.multipart(request)
        return JSONResponse(await self._started(self._new_job(project, body, file), request))

    async def _upload_part(self, request: Request) -> Response:
        upload = await self._uploads.receive(request)
        if not upload.complete:
            last = upload.received - 1
            headers = {"range": f"bytes=0-{last}"} if upload.received else {}
            return Response(status_code=308, headers=headers)
        job = self._new_job(upload.project, upload.body, upload.file)
        return JSONResponse(await self._started(job, request))

    async def _other(self, request: Request) -> Response:
        answer = await self.runtime.call(dict(request.scope), await request.body())
        headers = {
            name.decode(): value.decode()
            for name, value in answer.headers
            if name.lower() != b"content-length"
        }
        body = answer.body if answer.status < 400 else _worded(answer.body)
        return Response(body, answer.status, headers)


async def _wait(finished: Future[None], seconds: float) -> None:
    await asyncio.wait([asyncio.wrap_future(_mirror(finished))], timeout=seconds)


def _mirror(finished: Future[None]) -> Future[None]:
    """A future that ends with ``finished``, and may be cancelled without harm to it."""
    mirror: Future[None] = Future()

    def end(_: Future[None]) -> None:
        if not mirror.done():
            mirror.set_result(None)

    finished.add_done_callback(end)
    return mirror


def _worded(body: bytes) -> bytes:
    """bqemulator's "Not found: table:p.d.t" as BigQuery's "Not found: Table p:d.t"."""

    def word(found: re.Match[bytes]) -> bytes:
        return found[1] + found[2].capitalize() + b" " + found[3] + b":" + found[4]

    pattern = rb"((?:Not found|Already Exists): )(table|dataset|routine|model):([^.\"]+)\.([^\"]+)"
    return re.sub(pattern, word, body)


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), status_code=error.status)


def application(bigquery: BigQuery, more: list[Route]) -> Application:
    """The ASGI application: ``more`` routes first, then BigQuery's."""
    routed = Starlette(routes=[*more, *bigquery.routes()], exception_handlers={ApiError: _refusal})

    async def expiring(scope: Scope, receive: Receive, send: Send) -> None:
        if bigquery.runtime.catalog.expired():
            await bigquery.runtime.in_thread(bigquery.tables.expire)
        await routed(scope, receive, send)

    return expiring
