"""The errors of the emulated services, as HTTP answers and as a job's ``errorResult``."""

from __future__ import annotations

from typing import Any

from bqemulator.domain.errors import DomainError

# The HTTP status that goes with each reason (BigQuery's page "Error messages").
STATUS = {
    "accessDenied": 403,
    "backendError": 503,
    "badRequest": 400,
    "billingNotEnabled": 403,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "jobBackendError": 400,
    "jobInternalError": 400,
    "jobRateLimitExceeded": 400,
    "notFound": 404,
    "notImplemented": 501,
    "outOfRange": 400,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "required": 400,
    "resourceInUse": 400,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 499,
    "timeout": 400,
}


class ApiError(Exception):
    """A refusal: ``reason`` in BigQuery's words, a message, maybe where."""

    def __init__(
        self, reason: str, message: str, *, location: str = "", status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.location = location
        self.status = status or STATUS.get(reason, 400)

    @classmethod
    def of(cls, error: DomainError) -> ApiError:
        """The same error, from bqemulator's own kind."""
        return cls(
            error.bq_reason, error.message, location=error.location or "", status=error.http_status
        )

    def result(self) -> dict[str, str]:
        """As ``errorResult`` of a job."""
        found = {"reason": self.reason, "message": self.message}
        return {**found, "location": self.location} if self.location else found

    def body(self) -> dict[str, Any]:
        """As the JSON body of an HTTP answer."""
        return {
            "error": {
                "code": self.status,
                "message": self.message,
                "errors": [{"domain": "global", **self.result()}],
            }
        }


class Stopped(ApiError):
    """The job was cancelled, or ran longer than it was allowed to."""

    def __init__(self, message: str) -> None:
        super().__init__("stopped", message)
