"""Ask a running model server: what it has, what a photo shows, what a model says."""
