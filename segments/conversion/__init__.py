"""A volume of format 3 becomes one of this version's format."""
