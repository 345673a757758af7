"""Who is asking, and may they: credentials, checkers, the chain, its cache, access rules."""
