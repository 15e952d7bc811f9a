"""sqllogictest: its files read, played on a volume and on plain SQLite, and drawn from a seed."""
