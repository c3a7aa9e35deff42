"""How long a plan would take on a device, launch by launch, without running it.

On graphics cards: instructions counted in the kernels' gfx803 code, bytes, waves, and what is
published of the cards (`card`). On processors: coefficients for each kernel, fitted to measured
launches (`processor`). Everything is an estimate, and says what it rests on (`rates`).
"""
