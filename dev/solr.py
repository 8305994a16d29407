"""Solr: its jars from Maven Central, a core for each use with the schema of the installed CKAN."""

from __future__ import annotations

import json
import shutil
import urllib.parse
import urllib.request
from pathlib import Path

from layout import HOME, HOST, LOGS, REPOSITORY, SOLR, Version
from machine import StackError, run

RECIPE = REPOSITORY / "dev" / "solr"
FOLDER = HOME / "solr"
CORES = FOLDER / "home"
WORD_LISTS = ("protwords.txt", "stopwords.txt", "synonyms.txt")


def fetch_jars() -> str:
    """Download Solr's jars once, and again when the recipe asks for others."""
    recipe = (RECIPE / "pom.xml").read_text()
    stamp = FOLDER / "fetched.xml"
    if stamp.exists() and stamp.read_text() == recipe:
        return "up to date"
    shutil.rmtree(FOLDER / "lib", ignore_errors=True)
    run(
        [
            # --update-snapshots: without it a failed download is not tried again for a day.
            *("mvn", "--batch-mode", "--update-snapshots", "--file", str(RECIPE / "pom.xml")),
            *("dependency:copy-dependencies", "-DincludeScope=runtime"),
            f"-DoutputDirectory={FOLDER / 'lib'}",
        ],
        LOGS / "maven.log",
        hint="Maven must reach Maven Central, or the mirror that ~/.m2/settings.xml names.",
    )
    CORES.mkdir(parents=True, exist_ok=True)
    (CORES / "solr.xml").write_text("<solr/>\n")
    stamp.write_text(recipe)
    return f"{len(list((FOLDER / 'lib').glob('*.jar')))} jars"


def server_command() -> list[str]:
    return [
        *("java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{FOLDER}/lib/*"),
        *(f"-Dsolr.install.dir={FOLDER}", f"-Dsolr.log.dir={LOGS}", "-Djetty.host=" + HOST),
        *(str(RECIPE / "Start.java"), str(CORES), str(SOLR)),
    ]


def make_cores(version: Version) -> str:
    """One core for the site and one for the tests of this CKAN version."""
    schema = next(version.venv.glob("lib/python3.*/site-packages/ckan/config/solr/schema.xml"))
    return ", ".join(_make_core(place.core, schema) for place in (version.site, version.tests))


def _make_core(name: str, schema: Path) -> str:
    conf = CORES / name / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    shutil.copy(schema, conf / "schema.xml")
    shutil.copy(RECIPE / "solrconfig.xml", conf)
    for words in WORD_LISTS:
        (conf / words).touch()
    if _admin(action="STATUS", core=name)["status"][name]:
        return f"{name} is there"
    _admin(action="CREATE", name=name, instanceDir=name)
    return f"{name} made"


def _admin(**parameters: str) -> dict:
    query = urllib.parse.urlencode(parameters)
    url = f"http://{HOST}:{SOLR}/solr/admin/cores?{query}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)
    except OSError as err:
        raise StackError(f"Solr refuses {query} ({LOGS}/solr.log): {err}") from err
