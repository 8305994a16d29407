"""Datasets over HTTP: read and changed by who may, with preconditions; the rest is bqemulator's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bqemulator.api.routes.datasets import _parse_access_entries
from bqemulator.catalog.models import DatasetMeta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import ApiError
from ..identities import of_request
from .access import Access
from .engine import quote_name
from .runtime import Runtime

_DATASET = "/bigquery/v2/projects/{project}/datasets/{dataset}"


class Datasets:
    """The handlers over one runtime."""

    def __init__(
        self, runtime: Runtime, read_json: Callable[[Request], Any], access: Access
    ) -> None:
        self._runtime = runtime
        self._read_json = read_json
        self._access = access

    def routes(self) -> list[Route]:
        """The routes that are answered here."""
        return [
            Route(_DATASET, self._get, methods=["GET"]),
            Route(_DATASET, self._change, methods=["PATCH", "PUT"]),
            Route(_DATASET, self._delete, methods=["DELETE"]),
        ]

    def _require(self, project: str, dataset: str) -> DatasetMeta:
        found = self._runtime.catalog.get_dataset(project, dataset)
        if found is None:
            raise ApiError("notFound", f"Not found: Dataset {project}:{dataset}")
        return found

    async def _get(self, request: Request) -> Response:
        names = _names(request)
        self._require(*names)
        self._access.check_dataset(of_request(request.scope), *names)
        return await self._passed(request)

    async def _change(self, request: Request) -> Response:
        names = _names(request)
        before, body = self._require(*names), await self._read_json(request)
        self._access.check_dataset(of_request(request.scope), *names, owns=True)
        if request.headers.get("if-match", "*") not in ("*", before.etag):
            raise ApiError("conditionNotMet", "Precondition check failed.", status=412)
        if "access" in body:
            self._access.check_entries(before, _parse_access_entries(body["access"]))
        return await self._passed(request)

    async def _passed(self, request: Request) -> Response:
        answer = await self._runtime.call(dict(request.scope), await request.body())
        return Response(answer.body, answer.status, media_type="application/json")

    async def _delete(self, request: Request) -> Response:
        project, dataset = _names(request)
        contents = request.query_params.get("deleteContents", "").lower() == "true"
        self._require(project, dataset)
        self._access.check_dataset(of_request(request.scope), project, dataset, owns=True)

        def drop() -> None:
            catalog, engine = self._runtime.catalog, self._runtime.engine
            with engine.writing():
                if not contents and catalog.list_tables(project, dataset):
                    raise ApiError("resourceInUse", f"Dataset {project}:{dataset} is still in use")
                schema = quote_name(f"{project}__{dataset}")
                engine.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
                catalog.delete_dataset(project, dataset, delete_contents=True)

        await self._runtime.in_thread(drop)
        return Response(status_code=204)


def _names(request: Request) -> tuple[str, str]:
    return request.path_params["project"], request.path_params["dataset"]
