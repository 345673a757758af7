"""Stands for what is behind the gateway: an application, and a server that gives tokens.

It answers with what it is told of the client. Put your own in its place.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """``/auth`` is the server that gives tokens, everything else the application."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/auth":
            # What the caller presents in Authorization. A real server looks whether it is good.
            presented = self.headers.get("X-Userinfo", "")
            if presented.startswith("Bearer demo-"):
                self.answer(200, f"token-of-{presented.removeprefix('Bearer ')}")
            else:
                self.answer(401, "")
        else:
            names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Authkey")
            told = {name: self.headers.get(name) for name in names}
            self.answer(200, json.dumps({"path": self.path, **told}) + "\n")

    def answer(self, status: int, text: str) -> None:
        """Send an answer."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the nodes have an access log."""


if __name__ == "__main__":
    # A process 1 does not end by itself at SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    host, port = sys.argv[1].split(":")
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
