"""Files that want to be more than data."""
