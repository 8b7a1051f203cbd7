"""A tab that a test drives: it does with docs/clients/client.py what lines of JSON on its input say, each in a thread, and prints how it ended."""

import itertools
import json
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from client import Petstore, Refused, Store


class FileStore(Store):
    """Several processes find the same tokens here, but have no lock together."""

    def load(self):
        return json.loads(Path(sys.argv[3]).read_text("utf-8"))

    def save(self, tokens):
        draft = Path(f"{sys.argv[3]}.{os.getpid()}")
        draft.write_text(json.dumps(tokens), "utf-8")
        draft.rename(sys.argv[3])


shop, said = Petstore(sys.argv[2], FileStore(), patience=20), threading.Lock()
WORK = {
    "login": shop.login,
    "get": lambda path: shop.get(path).document,
    "write": shop.write,
    "edit": lambda product_id, members: shop.edit(product_id, lambda product: members),
    "poll": lambda path, seconds, count: list(itertools.islice(shop.poll(path, seconds), count)),
}


def do(number, name, arguments):
    try:
        ended = {"value": WORK[name](*arguments)}
    except Exception as error:  # noqa: BLE001
        ended = {"error": type(error).__name__, "type": error.type if isinstance(error, Refused) else str(error)}
    with said:
        print(json.dumps({"number": number, **ended}), flush=True)


for line in sys.stdin:
    threading.Thread(target=do, args=json.loads(line), daemon=True).start()
