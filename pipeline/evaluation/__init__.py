"""Scores with and without truth, comparisons, the report."""
