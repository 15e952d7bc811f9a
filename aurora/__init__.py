"""The compute side of an Amazon Aurora volume: one writer, six copies, a 4/6 write quorum."""
