"""The dashboard: one page on the management listener, for people."""
