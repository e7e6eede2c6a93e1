// WebDNN.Math: positions of the largest and smallest elements.

/** Positions of the k first elements in the order that `before` gives; equal elements keep their order. */
function select(array: ArrayLike<number>, k: number, before: (left: number, right: number) => boolean): number[] {
  const best: number[] = [];
  for (let index = 0; index < array.length; index++) {
    let place = best.length;
    while (place > 0 && before(array[index], array[best[place - 1]])) place--;
    if (place >= k) continue;
    best.splice(place, 0, index);
    if (best.length > k) best.pop();
  }
  return best;
}

/** Positions of the k largest elements, largest first. */
export function argmax(array: ArrayLike<number>, k = 1): number[] {
  return select(array, k, (left, right) => left > right);
}

/** Positions of the k smallest elements, smallest first. */
export function argmin(array: ArrayLike<number>, k = 1): number[] {
  return select(array, k, (left, right) => left < right);
}
