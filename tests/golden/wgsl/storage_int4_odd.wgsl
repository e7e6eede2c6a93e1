@group(0) @binding(0) var<storage, read> x: array<u32>; // int4
@group(0) @binding(1) var<storage, read_write> y: array<atomic<u32>>; // int4

@compute @workgroup_size(32, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.x * 32u + local.x;
  if (index >= 19u) { return; }
  let i = i32(index);
  let t1_ = i * 2 + 1;
  let t2_ = (u32(t1_) & 7u) * 4u;
  let t3_ = bitcast<u32>(extractBits(bitcast<i32>(x[i >> 3u]), (u32(i) & 7u) * 4u, 4u)) & 15u;
  atomicAnd(&y[t1_ >> 3u], ~(15u << t2_));
  atomicOr(&y[t1_ >> 3u], t3_ << t2_);
}
