"""Writes openapi.json from the descriptor set alone: paths, schemas, rules, comments, policies, errors."""
