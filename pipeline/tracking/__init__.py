"""Runs and registered models in MLflow; the only code that imports mlflow."""
