"""How Hypothesis runs here: without a clock, and in CI without chance."""

import os

from hypothesis import settings

settings.register_profile(
    "gatekeeper", deadline=None, derandomize="CI" in os.environ, max_examples=200, print_blob=True
)
settings.load_profile("gatekeeper")
