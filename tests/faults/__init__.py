"""Runs that are killed, or that cannot write, and what is left of them."""
