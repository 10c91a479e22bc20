"""Separation by object: who did one duty on an object may do none of the others on it."""
