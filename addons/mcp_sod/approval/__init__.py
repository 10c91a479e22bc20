"""Approval: holds a risky call until other people have agreed to exactly that call, once."""
