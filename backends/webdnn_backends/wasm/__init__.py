"""The WebAssembly backend: loop-IR kernels to module bytes, and the hand-written kernels that decide speed."""
