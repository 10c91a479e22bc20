"""Identity: makes a Principal from a verified token."""
