"""Whatever may come: a chain to lead it through, what must hold of the outcome, and who makes it up."""
