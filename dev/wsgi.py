"""The demo site for a WSGI server: `gunicorn wsgi:application`, with the ini in CKAN_INI."""

import os

from ckan.cli import load_config
from ckan.config.middleware import make_app

application = make_app(load_config(os.environ["CKAN_INI"]))
