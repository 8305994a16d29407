"""The errors of this extension, each with a message written for a person.

    BigQueryDatastoreError
    ├── ConfigError            a wrong option; CKAN does not start
    ├── BadRequest             400: what is wrong with the request
    │   └── Invalid            the same, as the fields of a ValidationError of core's
    ├── TooLarge               413: which limit was met, and what would be smaller
    ├── OverBudget             429: the site has spent what it may today
    ├── FooterError            shards that cannot become one Parquet file
    ├── TransformError         an exported row that cannot be rewritten as JSON or XML
    └── OutsideError           502 or 503: Google refused, or does not answer
        ├── PermissionMissing  502: which permission, on what
        ├── NotReachable       503: which service does not answer
        │   └── Busy           503: what takes too long, and what who asks can do
        │       └── Crowded    503: too many wait already, or are streamed to
        └── ExportFailed       502: BigQuery gave up on the job, in its own words

They are turned into HTTP answers in ``answers.failed``; ``gist`` says what visitors hear of them.
"""

from __future__ import annotations

from typing import Any

#: What a request hears whose JSON is nested beyond what Python can go through.
TOO_DEEP = "more levels of lists and objects than can be read"


class BigQueryDatastoreError(Exception):
    """The root: whatever this extension raises on purpose. ``status`` is for HTTP."""

    status = 500

    #: Whether the message is for whoever asks, and not only for those who run the site: ``gist``.
    is_for_visitors = False


class ConfigError(BigQueryDatastoreError):
    """An option has a wrong value. The message names the option."""


class BadRequest(BigQueryDatastoreError):
    """The request cannot be served as it stands."""

    status = 400
    is_for_visitors = True


class Invalid(BadRequest):
    """Parameters that core refuses; ``errors`` is what its ValidationError would hold."""

    def __init__(self, errors: dict[str, Any]) -> None:
        super().__init__("; ".join(f"{key}: {value}" for key, value in errors.items()))
        self.errors = errors


class TooLarge(BigQueryDatastoreError):
    """A limit of the site or of Google would be passed."""

    status = 413
    is_for_visitors = True


class OverBudget(BigQueryDatastoreError):
    """The site's budget of the day is used up; ``retry_after`` is the seconds until the next."""

    status = 429
    is_for_visitors = True

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message, retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class FooterError(BigQueryDatastoreError):
    """The Parquet footers at hand cannot be merged."""


class TransformError(BigQueryDatastoreError):
    """An exported row is not what its table's schema says."""


class OutsideError(BigQueryDatastoreError):
    """Google refused, failed or does not answer.

    ``retry_after`` is the seconds after which another try makes sense.
    """

    status = 502
    retry_after = 60


class PermissionMissing(OutsideError):
    """The site's credentials lack a permission, or a bucket or dataset is missing."""

    retry_after = 300


class NotReachable(OutsideError):
    """A service of Google's does not answer in time."""

    status = 503
    retry_after = 10


class Busy(NotReachable):
    """It takes too long at the moment; the message says what who asks can do."""

    is_for_visitors = True


class Crowded(Busy):
    """As many as may wait, or be streamed to, at a time do so already."""


class ExportFailed(OutsideError):
    """An export job ended without its files."""
