"""A site's DataStore from PostgreSQL into BigQuery, and back, table by table and row by row."""
