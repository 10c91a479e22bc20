"""Sessions: what a server gives one principal is taken from no other."""
