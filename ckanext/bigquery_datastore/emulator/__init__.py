"""A local BigQuery and Cloud Storage, to try and to test the extension without Google.

``python -m ckanext.bigquery_datastore.emulator`` (or ``ckan bigquery emulator``) starts
bqemulator inside an ASGI process of ours, with fake-gcs-server as its child behind a proxy
of ours. Nothing here imports CKAN or the rest of the extension. What the two leave out of
BigQuery and Cloud Storage is closed here, each gap in one place and with a test of the
same name in ``tests/emulator``:

| gap | closed in |
|---|---|
| one statement stops all others | ``engine``: a connection for each job and request |
| ``lastModifiedTime``, counts, sizes and schema after a change | ``tables``, ``sizes`` |
| transactions that copy tables | ``scripts`` |
| tables.patch, views, etags, messages of 404s | ``tables_api`` |
| job ids taken twice, RUNNING, cancel, time-out, restart | ``jobs`` |
| bytes processed and billed, limits, dry runs, destinations | ``queries`` |
| EXPORT DATA and extract jobs that reach Cloud Storage | ``exports``, ``shards``, ``texts`` |
| options of load jobs, bad rows, uploads | ``loads``, ``load_reading``, ``uploads`` |
| texts of values, parameters, names of columns, SEARCH | ``dialect``, ``search``, ``wire`` |
| preconditions, compose, buckets, batches | ``storage`` and ``storage_*`` |
| signed URLs: expiry, signature, headers | ``storage_xml``, ``signatures`` |
| credentials without Google | ``credentials``, ``identities`` |
| failures on demand, requests counted | ``faults``; set through ``admin`` |

Not emulated: time travel, IAM, quotas, row-level policies on exports, the Storage Read and
Write APIs, a streaming buffer of its own (it can be put on a table), ``maxBadRecords``,
EXPORT DATA inside a script, BIGNUMERIC beyond 20 + 18 digits.
"""
