"""How Sphinx makes the documentation: ``tox -e docs``."""

project = "gatekeeper"
author = "the gatekeeper authors"
copyright = author

root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "alabaster"
highlight_language = "none"
