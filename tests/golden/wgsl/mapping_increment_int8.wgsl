@group(0) @binding(0) var<storage, read> x: array<u32>; // int8
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // int8
@group(0) @binding(2) var<uniform> parameters: array<vec4<i32>, 1>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let n = parameters[0].x;
  let index = (group.y * groups.x + group.x) * 64u + local.x;
  let total = u32(n);
  let first = index * 4u;
  var y_word_ = 0u;
  for (var element = first; element < min(first + 4u, total); element++) {
    let last = element + 1u == total;
    let i = i32(element);
    y_word_ |= (bitcast<u32>(extractBits(bitcast<i32>(x[i >> 2u]), (u32(i) & 3u) * 8u, 8u) + 1) & 255u) << ((u32(i) & 3u) * 8u);
    if (((u32(i) & 3u) == 3u) || last) {
      y[i >> 2u] = y_word_;
      y_word_ = 0u;
    }
  }
}
