"""Arrival: a request that does not come to its end in time, or whose head has none, is not waited for."""
