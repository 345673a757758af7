"""How Sphinx makes the documentation: ``tox -e docs``."""

project = "gatekeeper"
author = "the gatekeeper authors"
copyright = author  # noqa: A001 - the name is Sphinx's

root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "alabaster"
highlight_language = "none"
