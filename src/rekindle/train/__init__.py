"""Training: data sets, one trainer, evaluation. Compression and spiking networks use the same one.

Needs PyTorch (`pip install 'rekindle[train]'`); nothing is imported until a module is asked for.
"""
