"""The website: the way of a download, and what is told of a table and of its files."""
