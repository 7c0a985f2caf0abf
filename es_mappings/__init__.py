"""Versioned JSON of the Elasticsearch indices: settings, analyzers, mappings."""
