"""Files that are broken in many ways, and decoders that meet them."""
