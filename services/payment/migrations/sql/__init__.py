"""What the first migration writes, in parts that fit a screen."""
