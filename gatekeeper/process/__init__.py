"""The process itself: what it has inherited, who follows it, and what it tells the service manager.

Only :mod:`gatekeeper.tap` and :mod:`gatekeeper.daemon` know of this.
"""
