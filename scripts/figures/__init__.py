"""What `scripts/bench.py` measures, by subject."""
