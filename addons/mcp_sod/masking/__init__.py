"""Masking: takes out of replies, and of what records and approvers see, what the policy calls sensitive."""
