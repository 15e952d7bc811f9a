"""A segment's history on disk: immutable layers, sorted by page and LSN, that tile it by LSN."""
