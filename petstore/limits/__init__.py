"""Limits per client and per account: request rate, failed attempts at a password, concurrent hashing."""
