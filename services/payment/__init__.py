"""Payments: wallets, the ledger, top-ups and bills."""
