"""Retraining without Prefect in it: run stages through DVC, look for changes, record and report what happened."""
