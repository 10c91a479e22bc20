"""The audit duty: records that nobody can alter unseen, from the journal to the store and back to the auditor."""
