@group(0) @binding(0) var<storage, read> x: array<f32>; // float32
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // float32
@group(0) @binding(2) var<uniform> parameters: array<vec4<i32>, 1>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let n = parameters[0].x;
  let index = (group.y * groups.x + group.x) * 64u + local.x;
  if (index >= u32(n)) { return; }
  let i = i32(index);
  y[i] = select(-1f, x[i], i < 5);
}
