"""What a person sees of a run: progress, tables, and the report page."""
