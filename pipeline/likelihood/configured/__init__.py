"""The likelihood that a configuration describes: its words, its numbers from templates, its pyhf workspace."""
