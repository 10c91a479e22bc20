"""Load for the bench: an upstream that costs next to nothing, and a client that measures."""
