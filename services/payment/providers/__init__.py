"""Who takes customers' money for us on the rails, and tells us of it."""
