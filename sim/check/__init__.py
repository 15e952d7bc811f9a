"""What must hold: the invariants, who holds them when, the reference model, coverage marks."""
