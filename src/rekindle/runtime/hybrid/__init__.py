"""Two engines on one model: which nodes run where, and the parts that run elsewhere."""
