"""What goes wrong around the service, and what it makes of it: the real command, and faults at its doors."""
