// The end of an exhaustive switch.

/** Does not compile if a `switch` has a case left. @throws Error if an unknown value comes at run time */
export function unreachable(value: never): never {
  throw new Error(`${String(value)} is not handled`)
}
