"""Mechanical mutants of the protocol's cores: a measure of the checkers and the generator."""
