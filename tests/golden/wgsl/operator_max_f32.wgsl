@group(0) @binding(0) var<storage, read> a: array<f32>; // float32
@group(0) @binding(1) var<storage, read> b: array<f32>; // float32
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // float32

fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & u32(0x7fffffffu)) > u32(0x7f800000u); }

fn max_f32(a: f32, b: f32) -> f32 {
  return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.x * 64u + local.x;
  let i = i32(index);
  y[i] = max_f32(a[i], b[i]);
}
