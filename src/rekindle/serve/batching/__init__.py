"""Dynamic batching: requests of one shape share a run of the model.

`scheduler` decides who runs when and `latency` which batch sizes pay; both are plain computations
over times they are given. `batcher` drives them from the event loop.
"""
