"""Where a model runs: `process` (its own, memory and crashes apart) or `thread` (light)."""
