"""Our OpenCL engine: plan on a Target, build, run."""
