"""A stand-in Immich and an embedded PostgreSQL, for the demo and the tests."""
