"""Keeps a folder of photos and an Immich library the same, both ways."""

from importlib.metadata import version

__version__ = version("immich-dbsync")
