"""The demo: one story about one bank, told on real processes, with every line of it checked."""
