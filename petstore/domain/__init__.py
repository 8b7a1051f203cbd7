"""The rules of the shop that several handlers share."""
