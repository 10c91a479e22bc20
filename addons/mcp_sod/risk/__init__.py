"""Risk: finds what the policy calls risky in a call."""
