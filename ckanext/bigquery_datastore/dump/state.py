"""How far an export is: the file, or not yet."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.recent import Recent


@dataclass(frozen=True)
class Ready:
    """The file: one object, or, where no one object can exist, several that are to be joined.

    ``cached`` is false for whoever published it; ``metadata`` is that of the published object.
    """

    objects: tuple[StoredObject, ...]
    cached: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(found.size for found in self.objects)

    @property
    def crc32c(self) -> str | None:
        """The file's checksum as Cloud Storage has it: base64; None where it is in parts."""
        return self.objects[0].crc32c if len(self.objects) == 1 else None

    @property
    def rows(self) -> int | None:
        rows = self.metadata.get("rows")
        return None if rows is None else int(rows)

    @property
    def ordered(self) -> bool:
        """Whether the rows are in the order of the plan; not where they were too many to sort."""
        return self.metadata.get("ordered", "True") == "True"


# Finished files by their name in the bucket, as this process heard of them a moment ago.
FILES: Recent[Ready] = Recent()

# The phases: BigQuery writes; Cloud Storage joins.
EXPORT, ASSEMBLE = "export", "assemble"


@dataclass(frozen=True)
class Running:
    """Not yet. ``progress`` of the phase is from 0 to 1, or None where it is not known.

    ``job`` is the id of BigQuery's job, which is all that there is to look at in the phase EXPORT;
    ``parts`` how many files are joined in the phase ASSEMBLE, where that is known.
    """

    phase: str
    progress: float | None
    started: dt.datetime
    job: str | None = None
    parts: int | None = None


# How far an export was when this process last looked, by the file's name in the bucket: for a crowd
# that has no place to wait, as each look asks Google three times.
RUNNING: Recent[Running] = Recent(most_seconds=2.5)
