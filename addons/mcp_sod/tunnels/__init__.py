"""Tunnels: where connections may lead, and what was said of their sender when they were opened."""
