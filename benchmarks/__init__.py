"""What gatekeeper costs beside nginx, HAProxy and squid: ``python -m benchmarks``."""
