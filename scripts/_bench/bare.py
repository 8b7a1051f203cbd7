"""The baseline of a server: waitress with a WSGI application that answers `/N` with N constant bytes.

By hand: python scripts/_bench/bare.py FD. FD is the descriptor of an inherited listening socket.
"""

import socket
import sys
from functools import cache

THREADS = 4


@cache
def answer(path):
    """The body and the headers for a path."""
    body = b"x" * int(path[1:])
    return [body], [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def app(environ, start_response):
    body, headers = answer(environ["PATH_INFO"])
    start_response("200 OK", headers)
    return body


if __name__ == "__main__":
    import waitress

    waitress.serve(app, sockets=[socket.socket(fileno=int(sys.argv[1]))], threads=THREADS)
