"""Who may do what: ``security.toml``, tokens and the white list (docs/spec/http.md 1.7 and 8)."""
