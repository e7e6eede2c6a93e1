/** Two random words, new ones in every run. */
export function random_key() {
  const data = new Uint32Array(2);
  globalThis.crypto.getRandomValues(data);
  return [{ dtype: "uint32", dims: [2], data }];
}
