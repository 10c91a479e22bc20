"""Intake: turns bytes into one Call, strictly; what it cannot read, it refuses."""
