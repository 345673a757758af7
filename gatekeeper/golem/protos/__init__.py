"""Generated from the ``.proto`` file beside it, which says how."""
