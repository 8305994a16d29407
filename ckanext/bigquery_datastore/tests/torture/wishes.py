"""What a process of ``calls`` can be told to do: an export, actions, a load, a migration."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ckan import model
from ckan.cli import CKANConfigLoader
from ckan.config.middleware import make_app
from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from click.testing import CliRunner

from ckanext.bigquery_datastore.cli import migrating
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.dump.exporting import Place

Order = Mapping[str, Any]


def started(ini: str) -> dict[str, Callable[[Order], Any]]:
    """A CKAN in this process, and what it can be told."""
    application = make_app(CKANConfigLoader(ini).get_config())._wsgi_app
    model.Session.remove()
    # The connections of before are nobody's: each process has its own.
    model.meta.engine.dispose()

    def in_ckan(work: Callable[[Order], Any]) -> Callable[[Order], Any]:
        def done(order: Order) -> Any:
            with application.test_request_context():
                return work(order)

        return done

    return {
        "export": export,
        "act": in_ckan(act),
        "load": in_ckan(load),
        "migrate": in_ckan(migrate),
    }


def _set(order: Order) -> None:
    """Constants of our modules that the order gives another value, by ``module:name``."""
    for name, value in order.get("set", {}).items():
        module, _, constant = name.partition(":")
        found = importlib.import_module(f"ckanext.bigquery_datastore.{module}")
        assert hasattr(found, constant)
        setattr(found, constant, value)


def export(order: Order) -> bool:
    """One export to its end; whether the file is there."""
    _set(order)
    place = Place(order["dataset"], order["bucket"], order["labels"])
    return isinstance(place.advance(place.plan(order["table"], order["format"])), Ready)


def act(order: Order) -> Any:
    """Actions, one after the other; what the last one gives, where that can be told."""
    _set(order)
    result = None
    for name, data in order["actions"]:
        user = tk.get_action("get_site_user")({"ignore_auth": True}, {})["name"]
        context: Any = {"ignore_auth": True, "user": user}
        result = tk.get_action(name)(context, data)
        model.Session.remove()
    told = json.dumps(result, default=str)
    return json.loads(told) if len(told) < 2000 else None


def load(order: Order) -> dict[str, Any]:
    """The background load of a resource to its end, by whoever has begun it; its status."""
    id = order["resource"]
    queue = jobs.get_queue(steps.QUEUE)
    end = time.monotonic() + 60
    while True:
        for job in queue.jobs:
            if job.args[0] == id:
                queue.remove(job)
                job.perform()
        model.Session.remove()
        # Whoever looks puts a step into the queue anew that was lost with its worker.
        status = tk.get_action("bigquery_load_status")({"ignore_auth": True}, {"resource_id": id})
        if status["state"] not in ("waiting", "loading"):
            return {name: status[name] for name in ("state", "rows", "error")}
        if time.monotonic() > end:
            raise TimeoutError(str(status)[:500])


def migrate(order: Order) -> str:
    """A table of PostgreSQL's into BigQuery; what the command says."""
    _set(order)
    arguments = [order["resource"], "--from", order["url"], "--yes"]
    done = CliRunner(env=dict(os.environ)).invoke(migrating.migrate, arguments)
    if done.exit_code:
        raise RuntimeError(f"{done.output[-1500:]} {done.exception!r}")
    return done.output[-500:]
