"""``python -m aurora sql``: a shell for the SQLite database that is a volume.

SQL is SQLite's; lines that begin with a dot are the shell's own. Nothing here needs the extra
``sql`` before a database is opened.
"""
