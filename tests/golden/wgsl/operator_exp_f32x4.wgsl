@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // float32
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>; // float32

fn i32_of_f32x4(v: vec4<f32>) -> vec4<i32> {
  let bits = bitcast<vec4<u32>>(v);
  let outside = (bits & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x4f000000u);
  let limit = bitcast<vec4<i32>>(vec4<u32>(0x7fffffffu) + (bits >> vec4<u32>(31u)));
  let inside = vec4<i32>(select(v, vec4<f32>(0f), outside));
  return select(select(inside, limit, outside), vec4<i32>(0), is_nanx4(v));
}

var<private> infinity_bits: u32 = 0x7f800000u;

fn is_nanx4(v: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }

fn exp_f32x4(x: vec4<f32>) -> vec4<f32> {
  let n: vec4<f32> = round(x * vec4<f32>(1.442695f));
  let r: vec4<f32> = fma(n, vec4<f32>(-1.4286068e-06f), fma(n, vec4<f32>(-0.69314575f), x));
  let p: vec4<f32> = fma(fma(fma(fma(fma(fma(fma(vec4<f32>(0.0001984127f), r, vec4<f32>(0.0013888889f)), r, vec4<f32>(0.008333334f)), r, vec4<f32>(0.041666668f)), r, vec4<f32>(0.16666667f)), r, vec4<f32>(0.5f)), r, vec4<f32>(1f)), r, vec4<f32>(1f));
  let whole: vec4<i32> = i32_of_f32x4(n);
  let half: vec4<i32> = whole >> vec4<u32>(1u);
  return select(select(p * bitcast<vec4<f32>>((half + vec4<i32>(127)) << vec4<u32>(23u)) * bitcast<vec4<f32>>((whole - half + vec4<i32>(127)) << vec4<u32>(23u)), vec4<f32>(bitcast<f32>(infinity_bits)), x > vec4<f32>(88.72284f)), vec4<f32>(0f), x < vec4<f32>(-104f));
}

@compute @workgroup_size(16, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.x * 16u + local.x;
  if (index >= 14u) { return; }
  let i = i32(index);
  y[i] = exp_f32x4(a[i]);
}
