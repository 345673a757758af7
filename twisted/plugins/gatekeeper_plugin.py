"""Makes ``twistd gatekeeper`` known to Twisted."""

from twisted.application.service import ServiceMaker

gatekeeper = ServiceMaker(
    "gatekeeper", "gatekeeper.tap", "A proxy that admits, meters and bills.", "gatekeeper"
)
