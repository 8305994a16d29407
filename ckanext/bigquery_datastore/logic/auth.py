"""Who may load a resource's file, and read how it went: whoever may change the resource."""

from __future__ import annotations

from ckan.plugins import toolkit as tk
from ckan.types import AuthResult, Context, DataDict


def bigquery_load_submit(context: Context, data_dict: DataDict) -> AuthResult:
    id = data_dict.get("resource_id")
    # CKAN's function alone lets people change a deleted dataset without an owner, which its action
    # does not show them.
    tk.check_access("resource_show", Context(**context), {"id": id})
    tk.check_access("resource_update", context, {"id": id})
    return {"success": True}


bigquery_load_status = bigquery_load_submit
