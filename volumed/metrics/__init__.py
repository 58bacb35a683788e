"""Metrics: what is counted (`families`), where (`page`, `recorder`), and how it is shown (`exporter`)."""
