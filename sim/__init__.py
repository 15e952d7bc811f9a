"""The simulator: the real engine and segments under a virtual clock and injected failures."""
