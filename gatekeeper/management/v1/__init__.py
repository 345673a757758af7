"""The management API under ``/v1``: a module for each kind of thing that operators work on."""
