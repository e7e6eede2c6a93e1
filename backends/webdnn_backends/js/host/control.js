/** Ends the run: no input may lead here. */
export function refuse(_, { reason }) {
  throw new RangeError(reason);
}
