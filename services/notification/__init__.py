"""Delivery of SMS and e-mail."""
