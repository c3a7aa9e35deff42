"""Tasks: what comes before and after a session, from a photograph to a name."""
