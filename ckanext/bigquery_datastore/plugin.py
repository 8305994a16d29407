"""Wires the extension into CKAN; the work is done in the modules it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ckan import plugins as p
from ckan.common import CKANConfig
from ckan.exceptions import CkanConfigurationException
from ckan.lib.plugins import DefaultTranslation
from ckan.plugins import toolkit as tk
from ckan.types import CKANApp
from ckanext.datastore import plugin as core_plugin
from ckanext.datastore.backend import DatastoreBackend
from ckanext.datastore.interfaces import IDatastoreBackend
from ckanext.datatablesview import plugin as core_view_plugin
from ckanext.tabledesigner.interfaces import ColumnConstraint, IColumnConstraints

from ckanext.bigquery_datastore import compat, config, jobs, others, withdrawal
from ckanext.bigquery_datastore.backend import BigQueryBackend
from ckanext.bigquery_datastore.backend.designer import form
from ckanext.bigquery_datastore.errors import ConfigError
from ckanext.bigquery_datastore.loading import watch
from ckanext.bigquery_datastore.web import about, load_views, views


@others.stands_before
@tk.blanket.config_declarations
@tk.blanket.blueprints([views.bigquery_datastore, about.about, load_views.bigquery_datastore_load])
@tk.blanket.actions
@tk.blanket.auth_functions
@tk.blanket.cli
@tk.blanket.helpers
class BigQueryDatastorePlugin(p.SingletonPlugin, DefaultTranslation):
    p.implements(p.IConfigurer)
    p.implements(p.IConfigurable)
    p.implements(p.IMiddleware, inherit=True)
    p.implements(p.ITranslation)
    p.implements(IDatastoreBackend, inherit=True)
    p.implements(IColumnConstraints)
    for _other in others.interfaces():
        p.implements(_other, inherit=True)

    # IDatastoreBackend

    def register_backends(self) -> dict[str, type[DatastoreBackend]]:
        return {config.SCHEME: BigQueryBackend}

    # IConfigurer

    def update_config(self, config_: CKANConfig) -> None:
        # Core's templates first: ours then stand before them, wherever core's plugins are listed.
        for core in (core_view_plugin, core_plugin):
            tk.add_template_directory(config_, str(Path(core.__file__).parent / "templates"))
        tk.add_template_directory(config_, "templates")
        tk.add_resource("assets", "bigquery_datastore")

    # IConfigurable

    def configure(self, config_: Any) -> None:
        if not config.is_active():
            return
        try:
            if not p.plugin_loaded("datastore"):
                raise ConfigError("bigquery_datastore needs the plugin datastore in ckan.plugins.")
            config.validate()
            jobs.wanted_formats()
        except ConfigError as err:
            raise CkanConfigurationException(str(err)) from err
        withdrawal.watch()
        watch.watch()
        others.say_so()

    # IMiddleware

    def make_middleware(self, app: CKANApp, config: Any) -> CKANApp:
        """Every plugin is loaded, and no request is answered yet."""
        compat.gather()
        return app

    # IXloader, IDataPusher of DataPusher+

    def can_upload(self, resource_id: str) -> bool:
        """Whether those two may load a resource: they would write to PostgreSQL."""
        return not config.is_active()

    # IColumnConstraints

    def column_constraints(
        self, existing_constraints: dict[str, list[type[ColumnConstraint]]], column_types: Any
    ) -> dict[str, list[type[ColumnConstraint]]]:
        if not config.is_active():
            return existing_constraints
        return form.constraints(existing_constraints)
