"""Who may call the server, and how often: `keys` knows callers, `rates` counts, `gate` decides.

REST and gRPC each ask the gate before a request reaches the data plane.
"""
