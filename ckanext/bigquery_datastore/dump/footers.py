"""The footers of an export's Parquet shards, fetched side by side and merged into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.storage import Store, side_by_side


def merged_footer(
    store: Store,
    parts: Sequence[StoredObject],
    metadata: Mapping[str, str],
    **marks: Sequence[str],
) -> tuple[list[StoredObject], bytes]:
    """The shards that hold rows (one where none does) and the footer that ends their concatenation.

    :param marks: as in :func:`parquet.merge`
    :raises FooterError: the shards cannot be one file
    """
    footers = list(side_by_side(lambda part: _footer(store, part), parts))
    filled = [index for index, footer in enumerate(footers) if parquet.shard_rows(footer)] or [0]
    shards = [parquet.Shard(parts[index].size, footers[index]) for index in filled]
    return [parts[index] for index in filled], parquet.merge(shards, metadata, **marks)


def _footer(store: Store, part: StoredObject) -> bytes:
    guess = min(parquet.TAIL_GUESS, part.size)
    tail = store.read_range(part, part.size - guess, part.size - 1)
    length = parquet.footer_length(tail)
    if length > len(tail):
        tail = store.read_range(part, part.size - length, part.size - 1)
    return tail[-length:]
