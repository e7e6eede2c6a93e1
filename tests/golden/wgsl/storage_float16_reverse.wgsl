@group(0) @binding(0) var<storage, read> x: array<u32>; // float16
@group(0) @binding(1) var<storage, read_write> y: array<u32>; // float16

fn pack_float16(x: f32) -> u32 {
  let whole: u32 = bitcast<u32>(x);
  let magnitude: u32 = whole & 2147483647u;
  let shifted: u32 = magnitude - 939524096u;
  let value: u32 = min(select((shifted + (4095u + ((shifted >> 13u) & 1u))) >> 13u, bitcast<u32>(bitcast<f32>(magnitude) + 0.5f) - 1056964608u, magnitude < 947912704u), 31744u);
  let sign_v: u32 = (whole >> 31u) << 15u;
  return select(value | sign_v, 32256u, magnitude > 2139095040u);
}

fn unpack_float16(bits: u32) -> f32 {
  let magnitude: u32 = bits & 32767u;
  let sign_v: u32 = (bits & 32768u) << 16u;
  return bitcast<f32>(select(select((magnitude << 13u) + 939524096u, bitcast<u32>(f32(magnitude) * 5.9604645e-08f), magnitude < 1024u), (magnitude << 13u) | 2139095040u, magnitude >= 31744u) | sign_v);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let index = group.x * 64u + local.x;
  let total = 65539u;
  let first = index * 2u;
  var y_word_ = 0u;
  for (var element = first; element < min(first + 2u, total); element++) {
    let last = element + 1u == total;
    let i = i32(element);
    let t1_ = 65538 - i;
    y_word_ |= pack_float16(unpack_float16(x[t1_ >> 1u] >> ((u32(t1_) & 1u) * 16u))) << ((u32(i) & 1u) * 16u);
    if (((u32(i) & 1u) == 1u) || last) {
      y[i >> 1u] = y_word_;
      y_word_ = 0u;
    }
  }
}
