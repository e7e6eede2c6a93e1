"""The WebGPU dialect: kernels as WGSL shader modules within a device profile."""

from webdnn_backends.webgpu.dialect import WgslKernel, emit, emit_program, objection
from webdnn_backends.webgpu.profile import DEFAULT, PROFILES, DeviceProfile

__all__ = ["DEFAULT", "PROFILES", "DeviceProfile", "WgslKernel", "emit", "emit_program", "objection"]
