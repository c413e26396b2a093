"""From what a user gives to the parts of a run."""
