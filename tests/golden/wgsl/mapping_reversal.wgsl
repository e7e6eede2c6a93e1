@group(0) @binding(0) var<storage, read> x: array<f32>; // float32
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // float32
@group(0) @binding(2) var<uniform> parameters: array<vec4<i32>, 1>;

var<workgroup> tile: array<f32, 8>;

@compute @workgroup_size(8, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let n = parameters[0].x;
  if (i32(group.y * groups.x + group.x) >= n) { return; }
  let g = i32(group.y * groups.x + group.x);
  let i = i32(local.x);
  tile[i] = x[g * 8 + i];
  workgroupBarrier();
  y[g * 8 + i] = tile[i * -1 + 7];
}
