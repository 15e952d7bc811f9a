"""Runs as files: scenarios, recordings, expectations, databases' logs."""
