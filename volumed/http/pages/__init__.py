"""The framework with what is no needle: status, health, UI, static files, profiles."""
