"""Which URLs name a Redis that the cache can use."""

from __future__ import annotations

import re

_FORM = re.compile(r"unix://[^?]+(\?db=[0-9]{1,5})?|rediss?://[^/?]*(/[0-9]{0,5})?")


def redis_url_fault(url: str) -> str | None:
    """Why the cache cannot use this URL, or None. The text never repeats the URL, which may have a password."""
    if not url.startswith("unix://") and "," in url.rpartition("@")[2]:
        return (
            "must name one host: the cache has one Redis, which may be lost at any time, and several would not agree on what is"
            " stale; for Sentinel or a cluster, name a proxy that finds the primary (such as HAProxy)"
        )
    if not _FORM.fullmatch(url):
        return "must be redis://HOST:PORT/NUMBER or unix:///PATH?db=NUMBER; other options could undo the cache's deadlines"
    port = re.search(r":([0-9]+)(/[0-9]*)?$", url)
    return "has a port above 65535" if port and int(port[1]) > 65535 else None
