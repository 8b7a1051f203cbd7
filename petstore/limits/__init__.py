"""What one client may take: requests, failed attempts at a password, hashing."""
