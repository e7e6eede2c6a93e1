@group(0) @binding(0) var<storage, read> x: array<f32>; // float32
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // float32
@group(0) @binding(2) var<uniform> parameters: array<vec4<i32>, 1>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let n = parameters[0].x;
  let index = (group.y * groups.x + group.x) * 64u + local.x;
  if (index >= u32(n)) { return; }
  let i = i32(index);
  let total_v: f32 = 0f;
  let t1_ = i * 4;
  var vector: vec4<f32> = vec4<f32>(x[t1_], x[t1_ + 1], x[t1_ + 2], x[t1_ + 3]);
  for (var k = 0; k < 2; k++) {
    vector = fma(vector, vec4<f32>(x[i]), vec4<f32>(1f, 2f, x[k], total_v));
  }
  y[i] = select(vec4<f32>(vector.w, vector.z, vector.y, vector.x), vector, vector < vec4<f32>(0f));
}
