"""The page /docs: the OpenAPI document as HTML, with code for every operation and forms to try it."""
