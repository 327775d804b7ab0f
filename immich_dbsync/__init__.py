"""Keeps a folder of photos and an Immich library the same, both ways."""

__version__ = "0.2.0"
