"""Frames and figures, read from the ledger."""
