"""Measuring: retrieval figures, reports, the gate, and the tuning of fusion."""
