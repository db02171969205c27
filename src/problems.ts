// The one error class that carries a problem (RFC 9457) to the client. Knows nothing of HTTP frameworks or AMQP; which
// problems there are is in the contract, openapi/problems.ts.

import { catalogue, type FieldError, isRetryable, type ProblemBody, type ProblemCode } from '../openapi/problems.js'

export { catalogue, type FieldError, isRetryable, type ProblemBody, type ProblemCode }

export interface ProblemOptions {
  errors?: FieldError[]
  /** Replaces the catalogue's status if HTTP has a more exact one (431 for headers that are too large). */
  status?: number
  /** The methods for the `allow` header of a 405. */
  allow?: string[]
  /** Seconds until another attempt is worthwhile, if the thrower knows better than the catalogue. */
  retryAfter?: number
  /** The `www-authenticate` header of a 401. */
  challenge?: string
  /** Other headers of the response. */
  headers?: Readonly<Record<string, string>>
  /** Members besides the standard ones, such as the `message_id` of a publish whose outcome is unknown. */
  extra?: Pick<ProblemBody, 'message_id'>
  cause?: unknown
}

/** An expected failure on its way to the client. Any code may throw it; `plugins/errors.ts` alone answers with it. */
export class Problem extends Error {
  readonly code: ProblemCode
  readonly options: ProblemOptions

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Problem'
    this.code = code
    this.options = options
  }

  /** The HTTP status. */
  get status(): number {
    return this.options.status ?? catalogue[this.code].status
  }

  /** Seconds after which the same request may succeed; undefined if it is not retryable. */
  get retryAfter(): number | undefined {
    return this.options.retryAfter ?? catalogue[this.code].retryAfter
  }

  /**
   * The body of the response, with every required member set.
   * @param instance the path of the request
   * @param prefix what stands before the gateway's paths, as clients see them
   */
  body(instance: string, requestId: string, prefix = ''): ProblemBody {
    const { errors, extra } = this.options
    return {
      type: `${prefix}/problems#${this.code}`,
      title: catalogue[this.code].title,
      status: this.status,
      detail: this.message,
      instance: `${prefix}${instance}`,
      code: this.code,
      request_id: requestId,
      retryable: this.retryAfter !== undefined,
      ...(errors && { errors: errors.slice(0, 20) }),
      ...extra,
    }
  }
}

/** The problem `invalid_request` about one part of the request. @param pointer as in FieldError */
export function invalidRequest(pointer: string, detail: string): Problem {
  return new Problem('invalid_request', `${pointer}: ${detail}`, { errors: [{ pointer, detail }] })
}
