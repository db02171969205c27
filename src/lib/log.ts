// What a part of the gateway needs of a logger: pino's calls, so that no part imports the HTTP framework for its types.

type Write = (fields: object, message?: string) => void
export interface Log {
  info: Write
  warn: Write
  error: Write
  debug: Write
}
