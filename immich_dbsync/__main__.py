"""``python -m immich_dbsync`` is the same as ``immich-dbsync``."""

from immich_dbsync.cli.main import main

if __name__ == "__main__":
    main()
