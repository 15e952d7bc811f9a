"""Scenarios as Python functions."""
