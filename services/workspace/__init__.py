"""Workspaces: people, roles, invites and channels."""
