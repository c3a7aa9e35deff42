"""What can be seen of a server from outside: metrics, logs and traces.

`calls.py` is what the protocols tell of each call; everything else listens (`events.Listener`).
"""
