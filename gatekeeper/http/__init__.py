"""HTTP as pure functions and small state machines: no sockets, no Twisted."""
