"""The tuner: which variant of which kernel is fastest here, measured and remembered."""
