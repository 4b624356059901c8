"""What a record and a sample are, on disk and in memory. Imports no sibling package."""
