"""Stands in for the real hatchling while pip fetches a source archive that is to be read, not built."""
