"""Pages, files and answers of CKAN's website: the way of a download, and what is told of a table."""
