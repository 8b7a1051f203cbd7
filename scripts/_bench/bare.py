"""The least that a server can do: waitress with a WSGI application that answers `/N` with N bytes, always the same.

By hand: python scripts/_bench/bare.py FD, on the listening socket that it inherits as this descriptor.
"""

import socket
import sys
from functools import cache

THREADS = 4


@cache
def answer(path):
    """The body of a path, and its headers."""
    body = b"x" * int(path[1:])
    return [body], [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def app(environ, start_response):
    body, headers = answer(environ["PATH_INFO"])
    start_response("200 OK", headers)
    return body


if __name__ == "__main__":
    import waitress

    waitress.serve(app, sockets=[socket.socket(fileno=int(sys.argv[1]))], threads=THREADS)
