"""Cloud Storage: preconditions, compose, listings, batches (facts, section 5)."""

from __future__ import annotations

import base64
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    NotFound,
    PreconditionFailed,
    TooManyRequests,
)
from google.cloud import storage

from ckanext.bigquery_datastore.emulator.storage.compose import combined

from ..conftest import Emulator


def put(bucket: storage.Bucket, name: str, content: str | bytes = "x") -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(content)
    return blob


# -- conditions ----------------------------------------------------------------------------


def test_a_create_only_upload_happens_once(bucket: storage.Bucket, fresh: str) -> None:
    bucket.blob(fresh).upload_from_string("first", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob(fresh).upload_from_string("second", if_generation_match=0)
    assert bucket.blob(fresh).download_as_bytes() == b"first"


def test_of_many_create_only_uploads_at_once_one_wins(bucket: storage.Bucket, fresh: str) -> None:
    def upload(number: int) -> int | None:
        try:
            bucket.blob(fresh).upload_from_string(str(number), if_generation_match=0)
        except PreconditionFailed:
            return None
        return number

    with ThreadPoolExecutor(8) as threads:
        winners = [n for n in threads.map(upload, range(16)) if n is not None]
    assert [bucket.blob(fresh).download_as_bytes()] == [str(n).encode() for n in winners]


def test_generations_rise_and_an_old_one_is_refused(bucket: storage.Bucket, fresh: str) -> None:
    first = put(bucket, fresh).generation
    second = put(bucket, fresh, "y").generation
    assert second > first
    blob = bucket.blob(fresh)
    for attempt in (
        lambda: blob.upload_from_string("z", if_generation_match=first),
        lambda: blob.download_as_bytes(if_generation_match=first),
        lambda: blob.reload(if_generation_match=first),
        lambda: blob.delete(if_generation_match=first),
    ):
        with pytest.raises(PreconditionFailed):
            attempt()
    with pytest.raises(NotFound):
        bucket.blob(fresh, generation=first).download_as_bytes()
    assert blob.download_as_bytes(if_generation_match=second) == b"y"
    blob.upload_from_string("z", if_generation_match=second)
    assert bucket.get_blob(fresh).generation > second


def test_what_is_missing_is_not_found(bucket: storage.Bucket, fresh: str) -> None:
    for attempt in (
        lambda: bucket.blob(fresh).delete(),
        lambda: bucket.blob(fresh).reload(),
        lambda: bucket.blob(fresh).download_as_bytes(),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert bucket.get_blob(fresh) is None
    with pytest.raises(NotFound):
        list(bucket.client.list_blobs("nowhere"))


# -- compose -------------------------------------------------------------------------------


def test_compose_joins_in_order_and_keeps_what_the_destination_says(
    bucket: storage.Bucket, fresh: str
) -> None:
    parts = [put(bucket, f"{fresh}/{index:02d}", f"{index};" * index) for index in range(32)]
    whole = bucket.blob(f"{fresh}/whole")
    whole.content_type = "text/csv"
    whole.content_disposition = 'attachment; filename="ä.csv"'
    whole.cache_control = "no-store"
    whole.metadata = {"rows": "5"}
    whole.compose(parts, if_generation_match=0)
    content = "".join(f"{index};" * index for index in range(32)).encode()
    assert whole.download_as_bytes() == content
    found = bucket.get_blob(f"{fresh}/whole")
    assert (found.size, found.component_count, found.md5_hash) == (len(content), 32, None)
    assert (found.content_type, found.cache_control) == ("text/csv", "no-store")
    assert (found.content_disposition, found.metadata) == (
        'attachment; filename="ä.csv"',
        {"rows": "5"},
    )


def test_the_type_of_a_composite_is_unset_unless_given(bucket: storage.Bucket, fresh: str) -> None:
    part = bucket.blob(f"{fresh}/part")
    part.upload_from_string("x", content_type="text/csv")
    bucket.blob(f"{fresh}/whole").compose([part])
    assert not bucket.get_blob(f"{fresh}/whole").content_type


def test_composites_of_composites_count_their_parts(bucket: storage.Bucket, fresh: str) -> None:
    part = put(bucket, f"{fresh}/part")
    bucket.blob(f"{fresh}/two").compose([part, part])
    two = bucket.get_blob(f"{fresh}/two")
    bucket.blob(f"{fresh}/five").compose([two, two, part])
    assert bucket.get_blob(f"{fresh}/five").component_count == 5
    assert bucket.blob(f"{fresh}/five").download_as_bytes() == b"xxxxx"


def test_a_composite_outlives_its_sources(bucket: storage.Bucket, fresh: str) -> None:
    parts = [put(bucket, f"{fresh}/{index}", str(index)) for index in range(3)]
    bucket.blob(f"{fresh}/whole").compose(parts)
    for part in parts:
        part.delete()
    assert bucket.blob(f"{fresh}/whole").download_as_bytes() == b"012"


def test_a_create_only_compose_happens_once(bucket: storage.Bucket, fresh: str) -> None:
    parts = [put(bucket, f"{fresh}/{index}", str(index)) for index in range(2)]

    def compose(_: int) -> bool:
        try:
            bucket.blob(f"{fresh}/whole").compose(parts, if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(compose, range(12))) == [False] * 11 + [True]


def test_the_sources_of_a_compose_are_pinned(bucket: storage.Bucket, fresh: str) -> None:
    stale = put(bucket, f"{fresh}/part", "old")
    put(bucket, f"{fresh}/part", "new")
    with pytest.raises(NotFound):
        bucket.blob(f"{fresh}/whole").compose([stale])
    current = bucket.blob(f"{fresh}/part")
    with pytest.raises(PreconditionFailed):
        bucket.blob(f"{fresh}/whole").compose([current], if_source_generation_match=[1])
    with pytest.raises(NotFound):
        bucket.blob(f"{fresh}/whole").compose([bucket.blob(f"{fresh}/nothing")])
    assert bucket.get_blob(f"{fresh}/whole") is None


def test_more_than_32_sources_are_refused(bucket: storage.Bucket, fresh: str) -> None:
    part = put(bucket, f"{fresh}/part")
    with pytest.raises(BadRequest, match="must be between 1 and 32"):
        bucket.blob(f"{fresh}/whole").compose([part] * 33)


def test_compose_can_delete_its_sources(bucket: storage.Bucket, fresh: str) -> None:
    parts = [put(bucket, f"{fresh}/{index}", str(index)) for index in range(3)]
    bucket.blob(f"{fresh}/whole").compose(parts, delete_source_objects=True)
    assert [blob.name for blob in bucket.list_blobs(prefix=fresh)] == [f"{fresh}/whole"]
    assert bucket.blob(f"{fresh}/whole").download_as_bytes() == b"012"


def test_the_checksum_of_a_composite_is_that_of_its_bytes(
    bucket: storage.Bucket, fresh: str
) -> None:
    numbers = random.Random(5)
    contents = [numbers.randbytes(size) for size in (0, 1, 70_001, 0, 12_345)]
    parts = [put(bucket, f"{fresh}/{index}", data) for index, data in enumerate(contents)]
    bucket.blob(f"{fresh}/whole").compose(parts)
    alone = put(bucket, f"{fresh}/alone", b"".join(contents))
    alone.reload()
    assert bucket.get_blob(f"{fresh}/whole").crc32c == alone.crc32c


def test_checksums_are_combined_by_length() -> None:
    # CRC-32C of "123456789" is the catalogue's check value; of "1234" and "56789" known parts.
    assert combined(0xF63AF4EE, 0x7C2B5D48, 0) == 0xF63AF4EE ^ 0x7C2B5D48
    assert combined(0, 0xE3069283, 9) == 0xE3069283


# -- the rest ------------------------------------------------------------------------------


def test_a_listing_has_prefixes_pages_and_offsets(bucket: storage.Bucket, fresh: str) -> None:
    for name in ("a", "b/1", "b/2", "c"):
        put(bucket, f"{fresh}/{name}")
    listing = bucket.list_blobs(prefix=f"{fresh}/", delimiter="/")
    assert [blob.name for blob in listing] == [f"{fresh}/a", f"{fresh}/c"]
    assert listing.prefixes == {f"{fresh}/b/"}
    pages = bucket.list_blobs(prefix=f"{fresh}/", page_size=2).pages
    assert [[blob.name[len(fresh) + 1 :] for blob in page] for page in pages] == [
        ["a", "b/1"],
        ["b/2", "c"],
    ]
    later = bucket.list_blobs(prefix=f"{fresh}/", start_offset=f"{fresh}/b/2")
    assert [blob.name[len(fresh) + 1 :] for blob in later] == ["b/2", "c"]


def test_a_batch_deletes_many_objects(
    gcs: storage.Client, bucket: storage.Bucket, fresh: str
) -> None:
    blobs = [put(bucket, f"{fresh}/{index}") for index in range(5)]
    with gcs.batch():
        for blob in blobs[:4]:
            blob.delete()
    assert [blob.name for blob in bucket.list_blobs(prefix=fresh)] == [f"{fresh}/4"]


def test_ranges_are_kept_to(bucket: storage.Bucket, fresh: str) -> None:
    blob = put(bucket, fresh, "0123456789")
    assert blob.download_as_bytes(start=3, end=5) == b"345"
    assert blob.download_as_bytes(start=8) == b"89"


def test_large_objects_pass_unharmed(bucket: storage.Bucket, fresh: str) -> None:
    content = random.Random(7).randbytes(12_000_000)  # more than one request's worth
    blob = bucket.blob(fresh)
    blob.chunk_size = 4 * 1024 * 1024
    blob.upload_from_string(content)
    assert bucket.blob(fresh).download_as_bytes() == content
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    assert bucket.get_blob(fresh).md5_hash == md5


def test_a_patch_changes_no_generation(bucket: storage.Bucket, fresh: str) -> None:
    """https://cloud.google.com/storage/docs/metadata#generation-number"""
    made = put(bucket, fresh, "abc")
    blob = bucket.blob(fresh)
    blob.metadata = {"a": "1", "b": "2"}
    blob.content_disposition = "attachment"
    blob.patch(if_generation_match=made.generation, if_metageneration_match=1)
    found = bucket.get_blob(fresh)
    assert (found.generation, found.metageneration) == (made.generation, 2)
    assert found.time_created == made.time_created < found.updated
    assert (found.metadata, found.content_disposition) == ({"a": "1", "b": "2"}, "attachment")
    assert bucket.blob(fresh, generation=made.generation).download_as_bytes() == b"abc"
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    with pytest.raises(PreconditionFailed):
        bucket.delete_blob(fresh, if_generation_match=made.generation, if_metageneration_match=1)
    copied = bucket.copy_blob(found, bucket, f"{fresh}-2")
    assert (copied.metageneration, copied.metadata) == (1, {"a": "1", "b": "2"})


def test_the_custom_time_of_an_object_goes_forward_only(bucket: storage.Bucket, fresh: str) -> None:
    """https://cloud.google.com/storage/docs/metadata#custom-time"""
    put(bucket, fresh)
    blob = bucket.blob(fresh)
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    blob.custom_time = moment
    blob.patch()
    assert bucket.get_blob(fresh).custom_time == moment
    blob.custom_time = moment - timedelta(seconds=1)
    with pytest.raises(BadRequest):
        blob.patch()
    assert [found.custom_time for found in bucket.list_blobs(prefix=fresh)] == [moment]


def test_metadata_is_patched_and_moved(bucket: storage.Bucket, fresh: str) -> None:
    blob = put(bucket, fresh, "abc")
    blob.metadata = {"a": "1"}
    blob.patch()
    assert bucket.get_blob(fresh).metadata == {"a": "1"}
    copied = bucket.copy_blob(bucket.blob(fresh), bucket, f"{fresh}-2", if_generation_match=0)
    assert copied.download_as_bytes() == b"abc"
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(bucket.blob(fresh), bucket, f"{fresh}-2", if_generation_match=0)


def test_a_bucket_remembers_what_is_set_on_it(gcs: storage.Client, fresh: str) -> None:
    made = gcs.create_bucket(f"b-{fresh[:10]}", location="europe-west1")
    made.add_lifecycle_delete_rule(age=7)
    made.patch()
    found = gcs.get_bucket(made.name)
    assert (found.location, found.location_type) == ("EUROPE-WEST1", "region")
    assert [rule["condition"] for rule in found.lifecycle_rules] == [{"age": 7}]
    assert found.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]
    with pytest.raises(Conflict):
        gcs.create_bucket(made.name)
    made.delete()
    with pytest.raises(NotFound):
        gcs.get_bucket(made.name)


def test_the_buckets_made_at_start_are_in_the_sites_location(bucket: storage.Bucket) -> None:
    bucket.reload()
    assert (bucket.location, bucket.location_type) == ("EU", "multi-region")
    assert bucket.soft_delete_policy.retention_duration_seconds == 0


def test_a_name_can_be_limited_to_one_write_a_second(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    emulator.admin("PUT", "switches", {"one_write_per_second": True})
    put(bucket, fresh)
    put(bucket, f"{fresh}-other")
    with pytest.raises(TooManyRequests, match="exceeded the rate limit for object mutation"):
        bucket.blob(fresh).upload_from_string("again", retry=None)
    with pytest.raises(TooManyRequests):
        bucket.blob(fresh).compose([bucket.blob(f"{fresh}-other")], retry=None)


def test_an_unsigned_url_of_a_private_bucket_is_denied(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    put(bucket, fresh)
    url = f"{emulator.storage_url}/exports/{fresh}"
    denied = httpx.get(url)
    assert (denied.status_code, "<Code>AccessDenied</Code>" in denied.text) == (403, True)
    emulator.admin("PUT", "switches", {"public_objects": True})
    assert httpx.get(url).text == "x"
