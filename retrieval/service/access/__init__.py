"""Who may connect, and what they may do: tokens, scopes and TLS."""
