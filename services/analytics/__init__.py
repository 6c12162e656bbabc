"""Statistics folded from events."""
