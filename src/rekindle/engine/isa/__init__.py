"""What the compiler makes of our kernels on Polaris: real instructions, without the card.

`compile_for_polaris` turns specialised kernels into gfx803 assembly with clang-19, `read` counts
what is in it, `check` holds that against what each kernel's spec promises, and `predict` says what
share of the card's peak a launch can reach. None of it needs an OpenCL device.
"""
