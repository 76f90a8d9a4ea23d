"""A pyhf workspace in other formats, and other formats as one."""
