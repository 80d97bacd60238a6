"""The ledger: every task, attempt and booking, on disk before anybody is told."""
