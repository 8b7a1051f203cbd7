"""The HTTP server of `petstore serve`: waitress with bounds, strict parsing, a fast path for cached reads, graceful shutdown."""
