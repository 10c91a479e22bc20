"""Roles: maps groups to roles, keeps excluded duties apart, and checks what a role may call."""
