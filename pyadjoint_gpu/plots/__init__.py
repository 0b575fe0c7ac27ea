"""Pictures of results, and ``Dataset.pag``."""
