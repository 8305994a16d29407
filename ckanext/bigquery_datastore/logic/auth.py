"""Who may load a resource's file, and read how it went: whoever may change the resource.

And who may change a table: nobody changes what CKAN does not show them.
"""

from __future__ import annotations

from ckan.plugins import toolkit as tk
from ckan.types import AuthFunction, AuthResult, Context, DataDict

from ckanext.bigquery_datastore import config


def bigquery_load_submit(context: Context, data_dict: DataDict) -> AuthResult:
    id = data_dict.get("resource_id")
    # CKAN's function alone lets people change a deleted dataset without an owner, which its action
    # does not show them.
    tk.check_access("resource_show", Context(**context), {"id": id})
    tk.check_access("resource_update", context, {"id": id})
    return {"success": True}


bigquery_load_status = bigquery_load_submit


@tk.chained_auth_function
def datastore_upsert(next_auth: AuthFunction, context: Context, data_dict: DataDict) -> AuthResult:
    """As core decides, of what is shown: it lets the editors of any organisation change the tables
    of a dataset whose organisation was deleted, also when the dataset was."""
    id = data_dict.get("resource_id")
    if config.is_active() and id:
        tk.check_access("resource_show", Context(**context), {"id": id})
    return next_auth(context, data_dict)


datastore_create = datastore_delete = datastore_records_delete = datastore_upsert
