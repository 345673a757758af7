"""HTTP/2 (RFC 9113), towards clients and towards upstreams: h2 is the codec."""
