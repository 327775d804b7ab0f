"""What is known of Immich: its tables, its HTTP API, its media types."""
