"""gatekeeper: a proxy daemon that admits, meters and bills every HTTP request."""

__version__ = "0.1.0"
