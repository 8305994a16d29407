"""Shards become one object: a tree of composes with 32 branches, each name written once.

The tree depends on the shards alone, so that two processes that assemble at the same time write the
same objects, and a process that dies leaves nodes that the next one finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckanext.bigquery_datastore.dump.objects import COMPOSE_LIMIT, Headers, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store, side_by_side

_NODE_HEADERS = Headers(content_type="application/octet-stream")


@dataclass(frozen=True)
class _Node:
    name: str
    sources: Sequence[StoredObject]


def compose_all(
    store: Store, folder: str, target: str, sources: Sequence[StoredObject], headers: Headers
) -> StoredObject:
    """Join any number of objects, in order, into ``target``.

    :param folder: where the tree's inner nodes go, with its ending slash
    :raises Gone: another process has published and tidied in the meantime
    """
    present = {found.name: found for found in store.list(f"{folder}tree-")}
    level = 0
    while len(sources) > COMPOSE_LIMIT:
        nodes = _level(folder, level, sources)
        sources = list(
            side_by_side(
                lambda node: (
                    present.get(node.name) or store.compose(node.name, node.sources, _NODE_HEADERS)
                ),
                nodes,
            )
        )
        level += 1
    return store.compose(target, sources, headers)


def _level(folder: str, level: int, sources: Sequence[StoredObject]) -> list[_Node]:
    return [
        _Node(f"{folder}tree-{level}-{start:06d}", sources[start : start + COMPOSE_LIMIT])
        for start in range(0, len(sources), COMPOSE_LIMIT)
    ]
