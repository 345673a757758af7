"""The store: usage in SQLite (embedded) or PostgreSQL, behind one interface."""
