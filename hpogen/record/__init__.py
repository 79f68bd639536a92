"""What a study has written down: its ledger, what that adds up to, what stands beside it."""
