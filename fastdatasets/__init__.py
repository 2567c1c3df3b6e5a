"""FastDatasets: training data for a small model from a dataset and a strong one."""
