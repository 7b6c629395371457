"""Who may call the API: keys, roles, and the guard that every request passes."""
