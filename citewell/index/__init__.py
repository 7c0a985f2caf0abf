"""Where passages, vectors and the ledger are kept."""
