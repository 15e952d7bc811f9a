"""A storage node: one copy of a protection group's log and pages, and the contract with compute."""
