"""Where slices come from: Kaggle, a folder or archive, or the phantom."""
