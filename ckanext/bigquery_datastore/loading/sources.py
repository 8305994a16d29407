"""Where the file of a resource is: CKAN's storage, or an address that somebody has typed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from ckan.lib import uploader
from ckan.logic import NotFound, ValidationError

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load.kinds import (
    Kind,
    file_name,
    kind_of,
    kind_of_format,
    kind_of_name,
    sheet_of,
)
from ckanext.bigquery_datastore.load.source import LocalFile, Opened, Source
from ckanext.bigquery_datastore.loading import fetch


def source_of(resource: Mapping[str, Any]) -> Source:
    """The file of a resource, as ``resource_show`` describes it.

    :raises BadRequest: it has none
    """
    url, kind = str(resource.get("url") or ""), kind_of(resource)
    if resource.get("url_type") == "upload":
        return _stored(resource, file_name(url) or str(resource["id"]), kind, sheet_of(url))
    if not url.startswith(("http://", "https://")):
        raise BadRequest(f"The resource has no file that could be loaded: its URL is {url!r}.")
    return linked(url, kind)


def linked(url: str, kind: Kind | None = None) -> Source:
    """The file at an address."""
    return _Linked(url, file_name(url) or "file", kind, sheet_of(url))


def _stored(resource: Mapping[str, Any], name: str, kind: Kind | None, sheet: str | None) -> Source:
    """An uploaded file, by way of the uploader of this CKAN: its own, or a plugin's."""
    upload: Any = uploader.get_resource_uploader(dict(resource))
    try:
        location = upload.get_path(resource["id"])
    except (TypeError, ValidationError, NotFound) as err:
        raise BadRequest("The file of the resource is not in CKAN's storage.") from err
    storage = getattr(upload, "storage", None)
    if storage is not None and hasattr(storage, "stream"):
        return _FromStorage(storage, str(location), name, kind, sheet)
    if not os.path.isabs(str(location)):
        raise BadRequest(
            "The site keeps its files where they cannot be read from: its uploader gives no path "
            "of this machine."
        )
    return LocalFile(Path(location), name, kind, sheet)


@dataclass
class _FromStorage:
    """A file in a storage of CKAN 2.12's files API, wherever that is."""

    storage: Any
    location: str
    name: str
    kind: Kind | None
    sheet: str | None

    @contextmanager
    def open(self, known: Mapping[str, Any] | None) -> Iterator[Opened]:
        from ckan.lib import files  # CKAN 2.11 has none
        from file_keeper.default.adapters.fs import FsStorage

        location = files.Location(self.location)
        try:
            size = self.storage.size(location)
            blocks = self.storage.stream(files.FileData(location, size=size))
        except (files.exc.FilesError, OSError) as err:
            raise BadRequest("The file of the resource is not in CKAN's storage.") from err
        if isinstance(self.storage, FsStorage):
            path = Path(self.storage.full_path(location))
            with path.open("rb") as raw:
                yield Opened(raw, size, path=path)
        else:
            yield Opened(cast("IO[bytes]", io.BufferedReader(_Blocks(blocks))), size)


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        super().__init__()
        self._blocks, self._left = iter(blocks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = block
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


@dataclass
class _Linked:
    """A file at an address that nobody vouches for."""

    url: str
    name: str
    kind: Kind | None
    sheet: str | None

    @contextmanager
    def open(self, known: Mapping[str, Any] | None) -> Iterator[Opened]:
        with fetch.opened(self.url, known, config.load_allowed_hosts()) as answer:
            # What the address does not tell, the server may.
            named = answer.name and kind_of_name(answer.name)
            self.kind = self.kind or kind_of_name(self.name) or named or _of_type(answer)
            yield Opened(answer.stream, answer.size, answer.told)


def _of_type(answer: fetch.Answer) -> Kind | None:
    return kind_of_format(answer.content_type) if answer.content_type else None
