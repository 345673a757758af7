"""Makes ``twistd gatekeeper-burner`` known to Twisted."""

from twisted.application.service import ServiceMaker

gatekeeper_burner = ServiceMaker(
    "gatekeeper-burner",
    "gatekeeper.tap_burner",
    "Burns the credits that gatekeeper has metered.",
    "gatekeeper-burner",
)
