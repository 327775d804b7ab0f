"""Our own schema in Immich's database: installing it, and reading and writing it."""
