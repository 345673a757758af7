"""Metrics: what the daemon counts, in the form in which Prometheus reads it."""
