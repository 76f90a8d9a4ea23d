"""A folder with a complete small analysis, to run as it stands and to change into another one."""
