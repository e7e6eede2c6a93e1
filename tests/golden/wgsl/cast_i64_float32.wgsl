@group(0) @binding(0) var<storage, read> x: array<vec2<u32>>; // int64
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // float32

fn abs_i64(a: vec2<u32>) -> vec2<u32> { return select(a, neg64(a), negative64(a)); }

fn f32_of_i64(a: vec2<u32>) -> f32 {
  let magnitude = f32_of_u64(abs_i64(a));
  return select(magnitude, -magnitude, negative64(a));
}

// The top 32 bits with a sticky last bit are rounded once, then scaled exactly.
fn f32_of_u64(a: vec2<u32>) -> f32 {
  if (a.y == 0u) { return f32(a.x); }
  let shift = 32u - countLeadingZeros(a.y);
  let top = shr_u64(a, vec2<u32>(shift, 0u));
  let lost = shl64(a, vec2<u32>(64u - shift, 0u));
  let sticky = select(0u, 1u, (lost.x | lost.y) != 0u);
  return f32(top.x | sticky) * bitcast<f32>((127u + shift) << 23u);
}

fn neg64(a: vec2<u32>) -> vec2<u32> { return sub64(vec2<u32>(0u), a); }

fn negative64(a: vec2<u32>) -> bool { return (a.y >> 31u) != 0u; }

fn shl64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if ((b.y != 0u) || (b.x > 63u)) { return vec2<u32>(0u); }
  if (b.x > 31u) { return vec2<u32>(0u, a.x << (b.x & 31u)); }
  if (b.x == 0u) { return a; }
  return vec2<u32>(a.x << b.x, (a.y << b.x) | (a.x >> (32u - b.x)));
}

fn shr_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if ((b.y != 0u) || (b.x > 63u)) { return vec2<u32>(0u); }
  if (b.x > 31u) { return vec2<u32>(a.y >> (b.x & 31u), 0u); }
  if (b.x == 0u) { return a; }
  return vec2<u32>((a.x >> b.x) | (a.y << (32u - b.x)), a.y >> b.x);
}

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.x * 64u + local.x;
  if (index >= 56u) { return; }
  let i = i32(index);
  y[i] = f32_of_i64(x[i]);
}
