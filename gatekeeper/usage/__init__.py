"""Metering: what each exchange used, counted, kept and moved into the store."""
