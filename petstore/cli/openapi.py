"""`petstore openapi`."""

from __future__ import annotations

import argparse
import json

from petstore import app
from petstore.settings import Settings


def openapi(settings: Settings, options: argparse.Namespace) -> None:
    """Print the OpenAPI document, as GET /openapi.json answers it."""
    print(json.dumps(app.openapi_document(), indent=2, ensure_ascii=False))
