"""Results as xarray Datasets."""
