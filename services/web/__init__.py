"""The companion of the edge: aggregate health, what services there are, reflection."""
