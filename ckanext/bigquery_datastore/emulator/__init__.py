"""A local BigQuery and Cloud Storage, to try and to test the extension without Google.

``python -m ckanext.bigquery_datastore.emulator`` (or ``ckan bigquery emulator``) starts
bqemulator inside an ASGI process of ours, and fake-gcs-server as its child. Nothing here
imports CKAN or the rest of the extension.
"""
