"""From a source to the index: sources, ledger, pipeline."""
