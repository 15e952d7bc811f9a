"""The tests; see README.md beside this file for what belongs where."""
