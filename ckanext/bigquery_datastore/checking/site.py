"""The site's own side: options, plugins, other loaders, workers, its server."""

from __future__ import annotations

import redis
from ckan import plugins as p
from ckan.lib import jobs as ckan_jobs
from ckan.lib.redis import connect_to_redis
from ckan.plugins import toolkit as tk
from rq import Worker

from ckanext.bigquery_datastore import config, jobs
from ckanext.bigquery_datastore.checking import served
from ckanext.bigquery_datastore.checking.finding import Finding, ok, unknown, wrong
from ckanext.bigquery_datastore.checking.looks import Looks
from ckanext.bigquery_datastore.errors import ConfigError, NotReachable
from ckanext.bigquery_datastore.loading import steps

# What else fills the DataStore, and what becomes of it here (``others``).
_LOADERS = ("xloader", "datapusher", "datapusher_plus")


def options(looks: Looks) -> Finding:
    try:
        config.validate()
        jobs.wanted_formats()
        bucket = config.export_bucket()
    except ConfigError as err:
        return wrong(str(err))
    return ok(f"bigquery://{config.project()}/{config.dataset()}, files in gs://{bucket}")


def plugins(looks: Looks) -> Finding:
    names = tk.aslist(tk.config["ckan.plugins"])
    missing = [name for name in ("datastore", "bigquery_datastore") if not p.plugin_loaded(name)]
    if missing:
        return wrong(f"{missing[0]} is not in ckan.plugins", _plugins([*missing, *names]))
    twice = [name for name in ("datastore", "bigquery_datastore") if names.count(name) > 1]
    if twice:
        return wrong(f"{twice[0]} is twice in ckan.plugins", _plugins(list(dict.fromkeys(names))))
    first, second = sorted(("datastore", "bigquery_datastore"), key=names.index)
    return ok(f"{first} before {second}: either order does")


def other_loaders(looks: Looks) -> Finding:
    names = tk.aslist(tk.config["ckan.plugins"])
    for name in _LOADERS:
        if name not in names:
            continue
        without = _plugins([each for each in names if each != name])
        if name == "datapusher" and not config.load_on_upload():
            said = "sends rows through the API, some hundred at a time: each batch is billed"
            return unknown(f"{name} {said}", without)
        return wrong(
            f"{name} is held back: the DataStore on BigQuery has a loader of its own", without
        )
    return ok("no other loader stands beside ours")


def _plugins(names: list[str]) -> str:
    return f'ckan config-tool {tk.config["__file__"]} "ckan.plugins = {" ".join(names)}"'


def load_workers(looks: Looks) -> Finding:
    if not config.load_on_upload():
        return ok("none is needed: files are not loaded by themselves (load_on_upload)")
    return _workers(steps.QUEUE, "no worker takes loads: files that are uploaded do not get in")


def export_workers(looks: Looks) -> Finding:
    formats = config.prewarm_formats()
    if not formats:
        return ok("none is needed: no format is exported ahead (prewarm_formats)")
    ahead = f"no worker takes the exports of {', '.join(formats)} ahead of visitors"
    return _workers(jobs.QUEUE, f"{ahead}: the first visitor waits instead")


def _workers(name: str, without: str) -> Finding:
    queue = ckan_jobs.add_queue_name_prefix(name)
    try:
        found = [w for w in Worker.all(connect_to_redis()) if queue in w.queue_names()]
        waiting = len(ckan_jobs.get_queue(name))
    except redis.RedisError as err:
        return wrong(f"Redis does not answer: {err}")
    if not found:
        fix = f"ckan -c {tk.config['__file__']} jobs worker {name}"
        return wrong(f"{without} ({waiting} wait)", fix)
    return ok(f"{len(found)} at the queue {name}, where {waiting} jobs wait")


def server(looks: Looks) -> Finding:
    try:
        told = served.ask()
    except NotReachable as err:
        return unknown(str(err))
    threads = told["threads"]
    held = f"{threads} threads a process" if threads else "downloads hold no thread"
    places = "; ".join(
        f"{doing}: {taken} now, {most} at most in one process ({option})"
        for doing, option in (
            ("waiting", config.WAITING_REQUESTS),
            ("streaming", config.STREAMING_REQUESTS),
        )
        for taken, most in [told[doing]]
    )
    said = f"{told['server']}: {held}; {places}"
    if threads == 1 and told["waiting"][1]:
        return wrong(
            f"{said}. A process of this server does one thing at a time: while a download waits, "
            "it answers nobody. Give it threads, or let none wait",
            f'ckan config-tool {tk.config["__file__"]} "{config.WAITING_REQUESTS} = 0"',
        )
    return ok(said)
