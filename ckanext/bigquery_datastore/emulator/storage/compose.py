"""Objects in the files of fake-gcs-server, which keeps their metadata in an extended attribute.

It composes in memory (two gigabytes took it four, and a minute): here the kernel copies and the
checksums are combined; written aside, then renamed into place, as atomic as Cloud Storage's.
And it takes a change of metadata for a new object: here only the metageneration grows
(https://cloud.google.com/storage/docs/metadata#generation-number).
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from .http import COMPONENTS, METAGENERATION, Metadata, Refused, metageneration

_ATTRIBUTE = "user.metadata"
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_PIECE = 1 << 26
_PATCHED = (
    "contentType",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "cacheControl",
)


class Files:
    """Composes and patches objects in the folder of a storage server."""

    def __init__(self, root: Path, aside: Path) -> None:
        aside.mkdir(parents=True, exist_ok=True)
        for left_over in aside.iterdir():
            left_over.unlink()
        self._root, self._aside = root, aside
        self._last_generation = 0

    def can(self, bucket: str, sources: list[Metadata]) -> bool:
        """Whether every source is kept in the way that we know."""
        return all(self._stored(bucket, source) for source in sources)

    def _file(self, bucket: str, name: str) -> Path:
        return self._root / bucket / name

    def _stored(self, bucket: str, source: Metadata) -> bool:
        name = source["name"]
        if ".." in name.split("/") or name.endswith("/"):
            return False
        try:
            raw = os.getxattr(self._file(bucket, name), _ATTRIBUTE)
            return str(json.loads(raw)["Generation"]) == source["generation"]
        except (OSError, ValueError, KeyError, AttributeError):
            return False

    def compose(
        self, bucket: str, name: str, destination: Metadata, sources: list[Metadata]
    ) -> None:
        """Create ``name`` out of ``sources``; what ``destination`` says becomes its metadata."""
        aside = self._aside / uuid.uuid4().hex
        try:
            with aside.open("wb") as whole:
                for source in sources:
                    _append(self._file(bucket, source["name"]), whole.fileno())
            checksum = 0
            for source in sources:
                crc = int.from_bytes(base64.b64decode(source["crc32c"]), "big")
                checksum = combined(checksum, crc, int(source["size"]))
            record = self._record(destination, checksum)
            os.setxattr(aside, _ATTRIBUTE, json.dumps(record).encode())
            target = self._file(bucket, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def patch(self, bucket: str, name: str, changes: Metadata) -> None:
        """Change what an object says of itself, in this generation of it.

        https://cloud.google.com/storage/docs/json_api/v1/objects/patch
        """
        file = self._file(bucket, name)
        record = json.loads(os.getxattr(file, _ATTRIBUTE))
        own = dict(record.get("Metadata") or {})
        for key, value in changes.items():
            if key == "metadata":
                hidden = {name: own[name] for name in (COMPONENTS, METAGENERATION) if name in own}
                told = {**own, **value} if value else hidden
                own = {name: text for name, text in told.items() if text is not None} | hidden
            elif key == "customTime":
                if _is_earlier(value, record.get("CustomTime")):
                    raise Refused(400, "The custom time of an object can only be set to later.")
                record["CustomTime"] = value
            elif key in _PATCHED:
                record[key[0].upper() + key[1:]] = value or ""
        grown = metageneration(str(record["Generation"]), own) + 1
        own[METAGENERATION] = f"{record['Generation']}:{grown}"
        record["Metadata"] = own
        record["Updated"] = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        os.setxattr(file, _ATTRIBUTE, json.dumps(record).encode())

    def _record(self, destination: Metadata, checksum: int) -> Metadata:
        self._last_generation = max(time.time_ns() // 1000, self._last_generation + 1)
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = base64.b64encode(checksum.to_bytes(4, "big")).decode()
        return {
            "StorageClass": "STANDARD",
            "ContentType": destination.get("contentType", ""),
            "ContentEncoding": destination.get("contentEncoding", ""),
            "ContentDisposition": destination.get("contentDisposition", ""),
            "ContentLanguage": destination.get("contentLanguage", ""),
            "CacheControl": destination.get("cacheControl", ""),
            "Crc32c": text,
            "Md5Hash": "",
            "Etag": text,
            "ACL": None,
            "Metadata": destination.get("metadata"),
            "Created": now,
            "Deleted": "",
            "Updated": now,
            "CustomTime": "",
            "Generation": self._last_generation,
            "RetentionMode": "",
            "RetentionRetainUntil": "",
        }


def _is_earlier(wanted: str | None, kept: str | None) -> bool:
    """https://cloud.google.com/storage/docs/metadata#custom-time"""
    if not kept:
        return False
    return wanted is None or datetime.fromisoformat(wanted) < datetime.fromisoformat(kept)


def _append(file: Path, target: int) -> None:
    with file.open("rb") as stream:
        left = os.fstat(stream.fileno()).st_size
        while left:
            copied = os.sendfile(target, stream.fileno(), None, min(left, _PIECE))
            if not copied:
                raise OSError(f"{file.name} became shorter while it was copied")
            left -= copied


def combined(first: int, second: int, length: int) -> int:
    """CRC-32C of two runs of bytes, from theirs and the ``length`` of the second.

    A zero byte more is a linear map on the 32 bits of a checksum; ``length`` of them are
    that map raised to a power, by squaring.
    """
    bits, power = length * 8, _one_zero_bit()
    while bits:
        if bits & 1:
            first = _applied(power, first)
        bits >>= 1
        if bits:
            power = [_applied(power, column) for column in power]
    return first ^ second


def _one_zero_bit() -> list[int]:
    return [_POLYNOMIAL, *(1 << bit for bit in range(31))]


def _applied(matrix: list[int], vector: int) -> int:
    found = 0
    for column in _columns(matrix, vector):
        found ^= column
    return found


def _columns(matrix: list[int], vector: int) -> Iterator[int]:
    for column in matrix:
        if vector & 1:
            yield column
        vector >>= 1
