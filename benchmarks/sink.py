"""An upstream that reads a request's body to its end before it answers: ``sink.py PORT``.

nginx cannot stand in for it, since it answers before it has read the body, or writes it to a file.
"""

from __future__ import annotations

import re
import socket
import sys
from threading import Thread
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\ndone\n"


def serve(client: socket.socket) -> None:
    """Answer requests with a counted body, or none, until the client hangs up."""
    buffer = memoryview(bytearray(1 << 20))
    data = b""
    with client:
        while True:
            while b"\r\n\r\n" not in data:
                piece = client.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            found = _LENGTH.search(head)
            left = int(found[1]) if found else 0
            taken = min(left, len(data))
            data, left = data[taken:], left - taken
            while left:
                count = client.recv_into(buffer, min(left, len(buffer)))
                if not count:
                    return
                left -= count
            client.sendall(_ANSWER)


def main(port: int) -> None:
    """Listen on a port of 127.0.0.1, for ever."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        while True:
            client, _ = listening.accept()
            Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
