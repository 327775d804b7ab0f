"""The loops that carry things between folder, database and API."""
