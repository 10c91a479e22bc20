"""The audit duty, module by module."""
