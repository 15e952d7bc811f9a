"""A volume as of one LSN as a volume of its own, which shares what never changes."""
