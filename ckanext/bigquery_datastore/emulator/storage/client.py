"""The BigQuery side's way to Cloud Storage: its JSON API, as BigQuery itself would use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from ..errors import ApiError

_CHUNK = 1 << 20


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and object name of ``gs://bucket/name``."""
    if not uri.startswith("gs://"):
        raise ApiError("invalid", f"Invalid path: {uri}. Must match gs://<bucket>/<object>.")
    bucket, _, name = uri[len("gs://") :].partition("/")
    return bucket, name


class StorageClient:
    """Objects of the Cloud Storage emulator, by its HTTP API. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(600, connect=5),
            limits=httpx.Limits(max_connections=16),
        )

    def require_bucket(self, bucket: str) -> None:
        """Raise ApiError ``notFound`` where there is no such bucket."""
        if self._http.get(f"/storage/v1/b/{quote(bucket, safe='')}").status_code == 404:
            raise ApiError("notFound", f"Not found: bucket {bucket}")

    def create_bucket(self, project: str, bucket: str) -> None:
        """Create a bucket unless it is there."""
        if self._http.get(f"/storage/v1/b/{quote(bucket, safe='')}").status_code == 200:
            return
        answer = self._http.post(f"/storage/v1/b?project={project}", json={"name": bucket})
        answer.raise_for_status()

    def names(self, bucket: str, prefix: str) -> Iterator[str]:
        """Names of the objects that start with ``prefix``, in order."""
        token = ""
        while True:
            parameters = {"prefix": prefix, "pageToken": token} if token else {"prefix": prefix}
            answer = self._http.get(f"/storage/v1/b/{quote(bucket, safe='')}/o", params=parameters)
            if answer.status_code == 404:
                raise ApiError("notFound", f"Not found: bucket {bucket}")
            answer.raise_for_status()
            page = answer.json()
            yield from (item["name"] for item in page.get("items") or [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def matching(self, uri: str) -> list[tuple[str, str]]:
        """Bucket and name of the objects that a URI with at most one ``*`` stands for."""
        bucket, name = split_uri(uri)
        head, star, tail = name.partition("*")
        found = [n for n in self.names(bucket, head) if n.endswith(tail)]
        return [(bucket, n) for n in found if star or n == name]

    def download(self, bucket: str, name: str, file: Path) -> None:
        """Write an object into ``file``."""
        path = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}?alt=media"
        with self._http.stream("GET", path) as answer, file.open("wb") as stream:
            if answer.status_code == 404:
                raise ApiError("notFound", f"Not found: URI gs://{bucket}/{name}")
            answer.raise_for_status()
            for chunk in answer.iter_raw(_CHUNK):
                stream.write(chunk)

    def upload(self, bucket: str, name: str, content: Iterator[bytes]) -> None:
        """Create an object from a stream of bytes, as BigQuery's exports look."""
        path = f"/upload/storage/v1/b/{quote(bucket, safe='')}/o"
        answer = self._http.post(
            path,
            params={"uploadType": "media", "name": name},
            content=content,
            headers={"content-type": "application/octet-stream"},
        )
        if answer.status_code in (403, 404):
            reason = "accessDenied" if answer.status_code == 403 else "notFound"
            raise ApiError(reason, _message(answer, bucket))
        answer.raise_for_status()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _message(answer: httpx.Response, bucket: str) -> str:
    if answer.status_code == 404:
        return f"Not found: bucket {bucket}"
    try:
        return f"Access Denied: File gs://{bucket}: {answer.json()['error']['message']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"Access Denied: File gs://{bucket}"
