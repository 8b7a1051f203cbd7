"""What the server changes in waitress itself, for the whole process."""

from __future__ import annotations

import logging
import re

from waitress import receiver


def setup() -> None:
    """Once in each process that runs a Server, before its first request. A second call changes nothing."""
    # waitress ends these with `$`, which lets a line feed by that others take for the end of the line (RFC 9112, 7.1).
    for name in ("ONLY_HEXDIG_RE", "CHUNK_EXT_RE"):
        pattern = getattr(receiver, name).pattern
        setattr(receiver, name, re.compile(re.sub(rb"\$\Z", rb"\\Z", pattern)))
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # more requests than threads is no event
