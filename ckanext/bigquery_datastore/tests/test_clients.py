"""What Google answers, told apart: come back later, or ask for a permission."""

from __future__ import annotations

import pytest
import requests
from google.api_core import exceptions as gexc

from ckanext.bigquery_datastore import clients, errors

# https://cloud.google.com/bigquery/docs/error-messages,
# https://cloud.google.com/storage/docs/json_api/v1/status-codes#403-forbidden
REASONS = {
    "rateLimitExceeded": (errors.NotReachable, True),
    "userRateLimitExceeded": (errors.NotReachable, True),
    "jobRateLimitExceeded": (errors.NotReachable, True),
    "quotaExceeded": (errors.NotReachable, False),
    "dailyLimitExceeded": (errors.NotReachable, False),
    "accessDenied": (errors.PermissionMissing, False),
    "forbidden": (errors.PermissionMissing, False),
    "billingNotEnabled": (errors.PermissionMissing, False),
}


def answer(status: int, reason: str) -> gexc.GoogleAPICallError:
    found = requests.Response()
    found.status_code = status
    found._content = (
        b'{"error": {"code": %d, "message": "No.", "errors": [{"reason": "%s", "message": "No."}]}}'
        % (status, reason.encode())
    )
    found.request = requests.Request("GET", "https://bigquery.googleapis.com/x").prepare()
    return gexc.from_http_response(found)


@pytest.mark.parametrize("reason", REASONS)
def test_a_403_is_a_throttle_or_a_missing_permission_by_its_reason(reason: str) -> None:
    kind, is_tried_again = REASONS[reason]
    with pytest.raises(errors.OutsideError) as told, clients.told("a search"):
        raise answer(403, reason)
    assert type(told.value) is kind
    assert clients.is_transient(answer(403, reason)) is is_tried_again
