"""Where everything of the stack is: folders, ports, names, per CKAN version."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from machine import can_enter, user_of_postgresql

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".stack"
LOGS = HOME / "log"

VERSIONS = {"2.12": "2.12.0", "2.11": "2.11.6"}

HOST = "127.0.0.1"
PROJECT = "local"
LOCATION = "EU"
PASSWORD = "stack"  # of a database that listens on loopback only

# A second stack on the same machine (another clone) moves all ports by the same distance.
OFFSET = int(os.environ.get("STACK_PORT_OFFSET", "0"))
POSTGRESQL, REDIS, SOLR, CKAN, BIGQUERY, STORAGE = (
    port + OFFSET for port in (5433, 6380, 8984, 5000, 9050, 4443)
)
# Test runs at the same time need databases of their own: each gives its lane a name.
LANE = os.environ.get("STACK_LANE", "")
# What the demo site runs on.
SERVER = os.environ.get("STACK_SERVER", "wsgi")
BIGQUERY_URL = f"http://{HOST}:{BIGQUERY}"
STORAGE_URL = f"http://{HOST}:{STORAGE}"
SITE_URL = f"http://{HOST}:{CKAN}"
CREDENTIALS = HOME / "credentials.json"


@dataclass(frozen=True)
class Place:
    """What belongs to one use (demo site or tests) of one CKAN version, apart from all others."""

    database: str
    core: str
    redis: int
    dataset: str
    bucket: str

    @property
    def sqlalchemy_url(self) -> str:
        return postgresql_url("ckan", self.database)

    @property
    def solr_url(self) -> str:
        return f"http://{HOST}:{SOLR}/solr/{self.core}"

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{REDIS}/{self.redis}"

    @property
    def bigquery_url(self) -> str:
        return f"bigquery://{PROJECT}/{self.dataset}"


@dataclass(frozen=True)
class Version:
    """One CKAN version of the stack."""

    short: str

    @property
    def ckan(self) -> str:
        return VERSIONS[self.short]

    @property
    def tag(self) -> str:
        return self.short.replace(".", "_")

    @property
    def venv(self) -> Path:
        return HOME / f"venv-{self.short}"

    @property
    def bin(self) -> Path:
        return self.venv / "bin"

    @property
    def folder(self) -> Path:
        return HOME / f"ckan-{self.short}"

    @property
    def ini(self) -> Path:
        return self.folder / "ckan.ini"

    @property
    def test_ini(self) -> Path:
        return HOME / f"test-{'-'.join(filter(None, [self.short, LANE]))}.ini"

    @property
    def core_ini(self) -> Path:
        """The tests' site with CKAN core's own DataStore, on PostgreSQL."""
        return self.test_ini.with_name(f"{self.test_ini.stem}-postgresql.ini")

    @property
    def site(self) -> Place:
        number = 2 * list(VERSIONS).index(self.short)
        return Place(f"ckan_{self.tag}", f"ckan_{self.tag}", number, "datastore", "exports")

    @property
    def tests(self) -> Place:
        suffix = "_".join(filter(None, [self.tag, LANE]))
        name = f"ckan_test_{suffix}"
        bucket = f"my-bucket-exports-{suffix}".replace("_", "-")
        return Place(name, name, self.site.redis + 1, f"test_{suffix}", bucket)

    @property
    def core_datastore(self) -> str:
        return self.tests.database.replace("ckan", "datastore", 1)


def postgresql_url(role: str, database: str) -> str:
    return f"postgresql://{role}:{PASSWORD}@{HOST}:{POSTGRESQL}/{database}"


def postgresql_data() -> Path:
    """PostgreSQL's data: under .stack/, unless its account cannot reach in there (below /root)."""
    if user_of_postgresql() is None or can_enter(REPOSITORY):
        return HOME / "postgresql"
    name = f"{REPOSITORY.name}-{hashlib.sha256(bytes(REPOSITORY)).hexdigest()[:8]}"
    return Path("/var/lib/ckanext-bigquery-datastore") / name / "postgresql"
