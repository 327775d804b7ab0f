"""The documentation: what is generated of it, and that the rest is true."""
