"""``python -m ckanext.bigquery_datastore.emulator``."""

from .command import emulator

if __name__ == "__main__":
    emulator(prog_name="python -m ckanext.bigquery_datastore.emulator")
