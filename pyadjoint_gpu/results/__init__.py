"""Results as Datasets."""
