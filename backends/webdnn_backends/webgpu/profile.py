"""Named device profiles: what a kernel may use, checked when it is compiled.

Spec: https://www.w3.org/TR/webgpu/#limits
"""

from __future__ import annotations

from dataclasses import dataclass

from webdnn_onnx.errors import LimitError

__all__ = ["DEFAULT", "PROFILES", "DeviceProfile"]


@dataclass(frozen=True)
class DeviceProfile:
    """The limits that a bundle relies on, named as in GPUSupportedLimits, and the features that it asks for."""

    name: str
    max_storage_buffers_per_shader_stage: int = 8
    max_storage_buffer_binding_size: int = 128 << 20
    max_buffer_size: int = 256 << 20
    max_compute_workgroup_storage_size: int = 16 << 10
    max_compute_invocations_per_workgroup: int = 256
    max_compute_workgroup_size: tuple[int, int, int] = (256, 256, 64)
    max_compute_workgroups_per_dimension: int = 65535
    features: frozenset[str] = frozenset()

    def check(self, where: str, what: str, got: int, limit: int) -> None:
        """Raises LimitError if a kernel or buffer needs more than the limit."""
        if got > limit:
            raise LimitError(f"{where}: {what}: expected at most {limit} (device profile '{self.name}'), got {got}")

    def check_buffer(self, where: str, bytes_: int) -> None:
        """Raises LimitError if a buffer of that size cannot be created or bound."""
        limit = min(self.max_buffer_size, self.max_storage_buffer_binding_size)
        self.check(where, "bytes of a storage buffer", bytes_, limit)


DEFAULT = DeviceProfile("default")
PROFILES: dict[str, DeviceProfile] = {
    profile.name: profile
    for profile in (
        DEFAULT,
        DeviceProfile(
            "desktop",
            max_storage_buffers_per_shader_stage=10,
            max_storage_buffer_binding_size=1 << 30,
            max_buffer_size=1 << 30,
            max_compute_workgroup_storage_size=32 << 10,
        ),
    )
}
"""`default` is what every WebGPU device has; `desktop` what discrete and recent integrated GPUs have."""
