"""The handlers, one module per resource. They do not import each other: rules that several share are in petstore.domain."""
