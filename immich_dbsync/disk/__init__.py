"""The owners' folders: opening, walking, hashing, watching, quarantine."""
