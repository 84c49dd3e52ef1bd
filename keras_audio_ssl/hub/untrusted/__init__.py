"""Files of strangers, read as data: nothing in them is imported or run."""
