"""For ckanext-dcat, where it is installed: each format of a table as a distribution of its own.

A profile ``bigquery_datastore`` that stands behind another one: behind one of DCAT it adds
``dcat:Distribution``, behind Croissant ``cr:FileObject``. ckanext-dcat alone imports this module.

https://www.w3.org/TR/vocab-dcat-3/#Class:Distribution
https://docs.mlcommons.org/croissant/docs/croissant-spec.html#fileobject
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from ckan.plugins import toolkit as tk
from ckanext.dcat.profiles import RDFProfile
from ckanext.dcat.profiles.base import CR, DCAT, DCT, SPDX
from ckanext.dcat.profiles.croissant import SCHEMA
from ckanext.dcat.utils import resource_uri
from rdflib import RDF, XSD, BNode, Graph, Literal, URIRef

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.dump.formats import Format
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.web import menu, offers

_MEDIA_TYPES = "https://www.iana.org/assignments/media-types/"

# For one document, which may be a catalogue of many tables, Google is asked for as long as this;
# the tables after that are told without what only Google knows.
_SECONDS = 3.0
_asked: WeakKeyDictionary[Graph, float] = WeakKeyDictionary()


class BigQueryDatastoreProfile(RDFProfile):
    """Downloads of the tables of a dataset, for those who collect."""

    def graph_from_dataset(self, dataset_dict: dict[str, Any], dataset_ref: URIRef) -> None:
        if not config.is_active():
            return
        for resource in dataset_dict.get("resources", []):
            if tk.asbool(resource.get("datastore_active") or False):
                self._add(resource, dataset_ref)

    def _add(self, resource: Mapping[str, Any], dataset_ref: URIRef) -> None:
        id = resource["id"]
        offer = self._offer(id)
        basename = downloads.basename_of(id)
        croissants = list(self.g.subjects(RDF.type, SCHEMA.Dataset))
        for format_ in downloads.formats_of(offer.table if offer else None):
            ref = URIRef(f"{resource_uri(resource)}#{format_.name}")
            url = menu.address(id, basename, format_, qualified=True)
            file = offer.files.get(format_.name) if offer else None
            size = file.size if file else None
            for croissant in croissants:
                self._describe(ref, croissant, SCHEMA.distribution, CR.FileObject)
                self._say(ref, _of_croissant(basename, format_, url, size))
            if not croissants:
                self._describe(ref, dataset_ref, DCAT.distribution, DCAT.Distribution)
                page = resource_uri(resource)
                self._say(ref, _of_dcat(resource, format_, page, url, size))
                if offer:
                    changed = offer.modified.isoformat()
                    self.g.add((ref, DCT.modified, Literal(changed, datatype=XSD.dateTime)))
                if file and file.crc32c:
                    self._add_checksum(ref, file.crc32c)

    def _describe(self, ref: URIRef, dataset: Any, property: URIRef, class_: URIRef) -> None:
        self.g.add((dataset, property, ref))
        self.g.add((ref, RDF.type, class_))

    def _say(self, ref: URIRef, said: Iterator[tuple[URIRef, Any]]) -> None:
        for property, value in said:
            self.g.add((ref, property, value))

    def _add_checksum(self, ref: URIRef, crc32c: str) -> None:
        checksum = BNode()
        self.g.add((ref, SPDX.checksum, checksum))
        self.g.add((checksum, RDF.type, SPDX.Checksum))
        # SPDX has no word of its own for it.
        self.g.add((checksum, SPDX.algorithm, Literal("crc32c")))
        self.g.add((checksum, SPDX.checksumValue, Literal(crc32c, datatype=XSD.hexBinary)))

    def _offer(self, resource_id: str) -> offers.Offer | None:
        spent = _asked.setdefault(self.g, 0.0)
        if spent > _SECONDS:
            return None
        began = time.monotonic()
        # A catalogue is one all the same when Google does not answer.
        try:
            with suppress(BigQueryDatastoreError):
                return offers.of(resource_id)
            return None
        finally:
            _asked[self.g] = spent + time.monotonic() - began


def _of_dcat(
    resource: Mapping[str, Any], format_: Format, page: str, url: str, size: int | None
) -> Iterator[tuple[URIRef, Any]]:
    name = resource.get("name") or resource["id"]
    yield DCT.title, Literal(f"{name} ({format_.title})")
    yield DCAT.accessURL, URIRef(page)
    yield DCAT.downloadURL, URIRef(url)
    yield DCAT.mediaType, URIRef(_MEDIA_TYPES + _media_type(format_))
    yield DCT["format"], Literal(format_.title)
    if size is not None:
        yield DCAT.byteSize, Literal(size, datatype=XSD.nonNegativeInteger)


def _of_croissant(
    basename: str, format_: Format, url: str, size: int | None
) -> Iterator[tuple[URIRef, Any]]:
    yield SCHEMA.name, Literal(f"{basename}.{format_.extension}")
    yield SCHEMA.contentUrl, Literal(url)
    yield SCHEMA.encodingFormat, Literal(_media_type(format_))
    if size is not None:
        # Croissant's own checker takes a text alone.
        yield SCHEMA.contentSize, Literal(str(size))


def _media_type(format_: Format) -> str:
    return format_.content_type.partition(";")[0]
