"""The command ``gatekeeper``, in :mod:`gatekeeper.cli.main`; a module for each subcommand."""
