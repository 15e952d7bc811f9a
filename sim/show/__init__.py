"""What people see of a run: reports, the live view, numbers and words."""
