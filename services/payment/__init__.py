"""Wallets, and a ledger that cannot lie."""
