"""The HTTP server of `petstore serve`: waitress, bounded, strict and drained."""
