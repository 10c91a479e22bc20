"""Release: takes the caller's credential off, puts the gateway's own on, and lets the call go."""
