"""The commands of `petstore`."""
