// The catalogue of everything the gateway can answer other than success (RFC 9457), and the one error class that carries it.
// Knows nothing of HTTP frameworks or AMQP.

interface Kind {
  readonly status: number
  readonly title: string
  /** Seconds after which the same request may well succeed; its presence makes the problem retryable. */
  readonly retryAfter?: number
}

const kinds = {
  invalid_request: { status: 400, title: 'The request is not valid' },
  invalid_message: { status: 400, title: 'The message can not be published as it is' },
  unauthorized: { status: 401, title: 'Who are you?' },
  access_refused: { status: 403, title: 'Access refused' },
  not_found: { status: 404, title: 'There is no such route' },
  queue_not_found: { status: 404, title: 'There is no queue of that name' },
  exchange_not_found: { status: 404, title: 'There is no exchange of that name' },
  vhost_not_found: { status: 404, title: 'There is no such vhost, or the gateway may not use it' },
  unroutable: { status: 404, title: 'No queue is bound for that message' },
  retry_policy_not_found: { status: 404, title: 'The queue has no retry policy' },
  redrive_not_found: { status: 404, title: 'There is no such redrive' },
  lease_not_found: { status: 404, title: 'That was never a lease' },
  subscription_not_found: { status: 404, title: 'There is no subscription of that name' },
  method_not_allowed: { status: 405, title: 'The resource has no such method' },
  not_acceptable: { status: 406, title: 'The answer can not take the form asked for' },
  precondition_failed: { status: 409, title: 'It is there already and different, or in use' },
  resource_locked: { status: 409, title: 'It belongs to another connection alone' },
  already_settled: { status: 409, title: 'The lease was settled in another way' },
  max_lease_exceeded: { status: 409, title: 'A lease can not last that long in all' },
  stream_queue: { status: 409, title: 'The queue is a RabbitMQ stream' },
  lease_gone: { status: 410, title: 'The lease is over' },
  message_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'That content type is not understood here' },
  rate_limited: { status: 429, title: 'Too many requests', retryAfter: 1 },
  too_many_leases: { status: 429, title: 'Too many open leases', retryAfter: 5 },
  too_many_waiters: { status: 429, title: 'Too many waiting receives', retryAfter: 5 },
  internal_error: { status: 500, title: 'A defect of the gateway' },
  broker_unavailable: { status: 503, title: 'RabbitMQ can not be reached', retryAfter: 2 },
  broker_blocked: { status: 503, title: 'RabbitMQ accepts no messages just now', retryAfter: 5 },
  publish_rejected: { status: 503, title: 'RabbitMQ rejected the message', retryAfter: 5 },
  settle_outcome_unknown: { status: 503, title: 'It is not known whether the lease was settled', retryAfter: 1 },
  lease_unreachable: { status: 503, title: "The lease's instance can not be reached just now", retryAfter: 2 },
  queue_quarantined: { status: 503, title: "The queue's messages end connections", retryAfter: 30 },
  authority_unavailable: { status: 503, title: 'It can not be told just now who asks', retryAfter: 2 },
  overloaded: { status: 503, title: 'The gateway is at its limit', retryAfter: 1 },
  shutting_down: { status: 503, title: 'The gateway is shutting down', retryAfter: 2 },
  publish_outcome_unknown: { status: 504, title: 'It is not known whether the message was stored', retryAfter: 1 },
  broker_timeout: { status: 504, title: 'RabbitMQ did not answer in time', retryAfter: 2 },
  rpc_timeout: { status: 504, title: 'No reply came in time' },
} as const satisfies Record<string, Kind>

export type ProblemCode = keyof typeof kinds

/** Every problem by its code. `docs/problems.md` explains each; a test holds the two together. */
export const catalogue: Readonly<Record<ProblemCode, Kind>> = kinds

/** One mistake in a request: where it is, as a JSON pointer that starts with the part (`/query/max`, `/header/…`, `/body/…`). */
export interface FieldError {
  pointer: string
  detail: string
}

export interface ProblemOptions {
  errors?: FieldError[]
  /** Replaces the catalogue's status where HTTP has a more exact one (431 for a header that is too long). */
  status?: number
  /** The methods for the `allow` header of a 405. */
  allow?: string[]
  /** Seconds until it is worth another try, where that is known better than the catalogue does. */
  retryAfter?: number
  /** The `www-authenticate` header of a 401. */
  challenge?: string
  /** Members beside the standard ones, such as the `message_id` of a publish whose outcome is unknown. */
  extra?: Record<string, unknown>
  cause?: unknown
}

/** An expected failure on its way to the client. Thrown anywhere, answered in one place (`plugins/errors.ts`). */
export class Problem extends Error {
  readonly code: ProblemCode
  readonly options: ProblemOptions

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Problem'
    this.code = code
    this.options = options
  }

  get status(): number {
    return this.options.status ?? catalogue[this.code].status
  }

  get retryAfter(): number | undefined {
    return this.options.retryAfter ?? catalogue[this.code].retryAfter
  }

  /** The body of the response, with every required member set. */
  body(instance: string, requestId: string): Record<string, unknown> {
    const { errors, extra } = this.options
    return {
      type: `/problems#${this.code}`,
      title: catalogue[this.code].title,
      status: this.status,
      detail: this.message,
      instance,
      code: this.code,
      request_id: requestId,
      retryable: this.retryAfter !== undefined,
      ...(errors && { errors: errors.slice(0, 20) }),
      ...extra,
    }
  }
}

/** A 400 about one part of the request. */
export function invalidRequest(pointer: string, detail: string): Problem {
  return new Problem('invalid_request', `${pointer}: ${detail}`, { errors: [{ pointer, detail }] })
}
