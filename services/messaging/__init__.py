"""Dialogs, messages, and their live delivery."""
