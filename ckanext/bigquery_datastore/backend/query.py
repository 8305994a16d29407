"""Statements for BigQuery: parameters, and running them within a budget of time and money."""

from __future__ import annotations

from collections.abc import Iterable

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.search import Parameter


def parameter_list(
    parameters: Iterable[Parameter],
) -> list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter]:
    """The parameters as the client library takes them."""
    return [
        bigquery.ArrayQueryParameter(parameter.name, parameter.type, list(parameter.value))
        if isinstance(parameter.value, tuple)
        else bigquery.ScalarQueryParameter(parameter.name, parameter.type, parameter.value)
        for parameter in parameters
    ]
