"""The volumed command."""
