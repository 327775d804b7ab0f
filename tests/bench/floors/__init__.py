"""The least that the work of a figure takes on this machine, written as barely as possible."""
