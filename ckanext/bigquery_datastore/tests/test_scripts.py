"""Scripts of other sites read files, ranges and refusals, where CKAN's options let them."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ckan.tests import factories, helpers
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from ckanext.bigquery_datastore import config

pytestmark = pytest.mark.usefixtures("non_clean_db")

# The bucket's rules as docs/operators/install.md has them.
CORS = [
    {
        "origin": ["*"],
        "method": ["GET", "HEAD"],
        "responseHeader": [
            *("Range", "Content-Type", "Content-Disposition", "Content-Length"),
            *("Content-Range", "ETag"),
        ],
        "maxAgeSeconds": 3600,
    }
]
ROWS = [{"name": f"name {n}"} for n in range(2000)]
CSV = "_id,name\n" + "".join(f"{n + 1},name {n}\n" for n in range(2000))

READ = """async ([url, options]) => {
    const answer = await fetch(url, options)
    const headers = Object.fromEntries(answer.headers.entries())
    return {status: answer.status, text: await answer.text(), headers}
}"""


# hyparquet, which the stack installs beside Python's packages: a reader that asks for the length
# (HEAD), then for the end of the file, then for the columns that it needs.
HYPARQUET = Path(sys.prefix, "javascript", "node_modules", "hyparquet", "src")
READ_PARQUET = """async ([module, url]) => {
    const {asyncBufferFromUrl, parquetReadObjects} = await import(module)
    const file = await asyncBufferFromUrl({url})
    const rows = await parquetReadObjects({file, columns: ["name"], rowStart: 1990, rowEnd: 2000})
    return {bytes: file.byteLength, names: rows.map(row => row.name)}
}"""


@pytest.fixture()
def other_site(tmp_path: Path) -> Iterator[str]:
    """A page of another origin: it has the browser's own fetch, and a reader of Parquet."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Another site</title>")
    shutil.copytree(HYPARQUET, tmp_path / "hyparquet")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_of_another_origin_reads_what_ckan_lets_it(own_site, start_site, other_site, page):
    bucket = storage.Client(config.project(), credentials=AnonymousCredentials()).bucket(
        config.export_bucket()
    )
    bucket.cors = CORS
    bucket.patch()
    resource = factories.Resource()
    helpers.call_action(
        "datastore_create",
        resource_id=resource["id"],
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=ROWS,
    )
    keys = dict.fromkeys((config.CREDENTIALS, config.CREDENTIALS_RO), str(own_site.key_file))
    origin = other_site.rstrip("/")
    site = start_site(
        {**keys, "ckan.cors.origin_allow_all": "false", "ckan.cors.origin_whitelist": origin},
        env=own_site.environment,
    )
    dump = f"{site.url}/datastore/dump/{resource['id']}"
    page.goto(other_site)

    def read(url: str, **headers: str) -> dict[str, Any]:
        return page.evaluate(READ, [url, {"headers": headers}])

    # By redirect, from the bucket.
    whole = read(dump)
    assert (whole["status"], whole["text"]) == (200, CSV)
    part = read(dump, Range="bytes=9-18")
    assert (part["status"], part["text"]) == (206, CSV[9:19])
    assert part["headers"]["content-range"] == f"bytes 9-18/{len(CSV)}"
    # Where the last bytes tell the way, as in Parquet: readers begin at the end.
    end = read(f"{dump}?format=parquet", Range="bytes=-4")
    assert (end["status"], end["text"]) == (206, "PAR1")
    read_by = [f"{other_site}hyparquet/index.js", f"{dump}/rows.parquet"]
    found = page.evaluate(READ_PARQUET, read_by)
    assert found["names"] == [f"name {n}" for n in range(1990, 2000)]
    assert found["bytes"] == json.loads(read(f"{dump}/status?format=parquet")["text"])["bytes"]
    # Through CKAN: rewritten on the way, a page of rows, a status, refusals.
    assert f'"{ROWS[-1]["name"]}"' in read(f"{dump}?format=json")["text"]
    few = read(f"{dump}?limit=1")
    assert (few["text"], few["headers"]["etag"][:1]) == ("_id,name\n1,name 0\n", '"')
    again = page.evaluate(
        READ,
        [
            f"{dump}?limit=1",
            {"cache": "no-store", "headers": {"If-None-Match": few["headers"]["etag"]}},
        ],
    )
    assert again["status"] == 304
    assert '"state": "ready"' in read(f"{dump}/status")["text"]
    assert read(f"{dump}?format=xls")["status"] == 400
    assert read(f"{site.url}/datastore/dump/none")["status"] == 404

    # A site that is not on CKAN's list reads nothing.
    page.goto(other_site.replace("127.0.0.1", "localhost"))
    with pytest.raises(Exception, match="Failed to fetch"):
        read(dump)
