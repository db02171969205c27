// The catalogue of problems: every error code of the API, what it means for the request, and what follows from it.

/** The status that one command of a bulk settle gets in its result. */
type LeaseFailure = 'gone' | 'conflict' | 'refused'

interface ProblemKind {
  readonly status: number
  readonly title: string
  /** Seconds after which the same request may succeed. A problem that has it is retryable. */
  readonly retryAfter?: number
  /** Of a publish that failed: RabbitMQ has not stored the message, or nobody knows whether it has. */
  readonly stored: 'no' | 'unknown'
  /**
   * How far the obstacle reaches.
   * message: this message alone cannot be published as it is; another one can.
   * target: the vhost, exchange or queue that a message is addressed to; other targets take messages.
   * request: anything else about the request, such as its parameters, its caller or its lease.
   * gateway: RabbitMQ or this instance, whatever the request asks for.
   */
  readonly scope: 'message' | 'target' | 'request' | 'gateway'
  /** The status of a command in a bulk settle that fails with this problem; absent: `unknown`. */
  readonly lease?: LeaseFailure
}

const request = { stored: 'no', scope: 'request' } as const
const message = { stored: 'no', scope: 'message' } as const
const target = { stored: 'no', scope: 'target' } as const
const gateway = { stored: 'no', scope: 'gateway' } as const

const kinds = {
  invalid_request: { status: 400, title: 'Invalid request', ...request },
  invalid_message: { status: 400, title: 'Invalid message', ...message },
  unauthorized: { status: 401, title: 'Authentication required', ...request },
  // Another caller may be allowed what this one is not, but a message of this one never reaches that target.
  access_refused: { status: 403, title: 'Access refused', ...target, lease: 'refused' },
  not_found: { status: 404, title: 'Path not found', ...request },
  queue_not_found: { status: 404, title: 'Queue not found', ...target },
  exchange_not_found: { status: 404, title: 'Exchange not found', ...target },
  vhost_not_found: { status: 404, title: 'Vhost not found or not accessible', ...target },
  unroutable: { status: 404, title: 'No queue bound for the message', ...target },
  retry_policy_not_found: { status: 404, title: 'Retry policy not found', ...request },
  redrive_not_found: { status: 404, title: 'Redrive not found', ...request },
  lease_not_found: { status: 404, title: 'Lease not found', ...request, lease: 'gone' },
  subscription_not_found: { status: 404, title: 'Subscription not found', ...request },
  method_not_allowed: { status: 405, title: 'Method not allowed', ...request },
  not_acceptable: { status: 406, title: 'Message cannot be returned raw', ...request },
  precondition_failed: { status: 409, title: 'Already exists with other properties, or in use', ...request },
  resource_locked: { status: 409, title: 'Queue in exclusive use', ...request },
  already_settled: { status: 409, title: 'Lease already settled differently', ...request, lease: 'conflict' },
  max_lease_exceeded: { status: 409, title: 'Maximum lease duration exceeded', ...request, lease: 'conflict' },
  stream_queue: { status: 409, title: 'Queue is a RabbitMQ stream', ...request },
  lease_gone: { status: 410, title: 'Lease expired or lost', ...request, lease: 'gone' },
  message_too_large: { status: 413, title: 'Body too large', ...message },
  unsupported_media_type: { status: 415, title: 'Unsupported media type', ...request },
  rate_limited: { status: 429, title: 'Too many requests', ...request, retryAfter: 1 },
  too_many_leases: { status: 429, title: 'Too many open leases', ...gateway, retryAfter: 5 },
  too_many_waiters: { status: 429, title: 'Too many waiting receives', ...gateway, retryAfter: 5 },
  internal_error: { status: 500, title: 'Internal error', stored: 'unknown', scope: 'gateway' },
  broker_unavailable: { status: 503, title: 'RabbitMQ unavailable', ...gateway, retryAfter: 2 },
  broker_blocked: { status: 503, title: 'RabbitMQ does not accept messages', ...gateway, retryAfter: 5 },
  // Of several queues that the exchange routes to, others may have the message; the one that rejected it does not.
  publish_rejected: { status: 503, title: 'Message rejected by RabbitMQ', ...target, retryAfter: 5 },
  // The same if it may be a duplicate: another attempt would be refused too.
  publish_refused: { status: 409, title: 'Message refused, perhaps as a duplicate', ...target },
  settle_outcome_unknown: { status: 503, title: 'Settle outcome unknown', stored: 'unknown', scope: 'request', retryAfter: 1 },
  lease_unreachable: { status: 503, title: 'Lease temporarily unreachable', ...request, retryAfter: 2 },
  queue_quarantined: { status: 503, title: 'Queue quarantined', ...target, retryAfter: 30 },
  authority_unavailable: { status: 503, title: 'Authentication temporarily unavailable', ...gateway, retryAfter: 2 },
  overloaded: { status: 503, title: 'Gateway at its limit', ...gateway, retryAfter: 1 },
  shutting_down: { status: 503, title: 'Gateway shutting down', ...gateway, retryAfter: 2 },
  publish_outcome_unknown: { status: 504, title: 'Publish outcome unknown', stored: 'unknown', scope: 'gateway', retryAfter: 1 },
  // Only questions and declarations time out with it, never a publish.
  broker_timeout: { status: 504, title: 'RabbitMQ did not answer in time', ...gateway, retryAfter: 2 },
  rpc_timeout: { status: 504, title: 'No RPC reply in time', stored: 'unknown', scope: 'target' },
} as const satisfies Record<string, ProblemKind>

/** The stable `code` of a problem. */
export type ProblemCode = keyof typeof kinds

/** Every problem by its code. `docs/problems.md` explains each of them; a test holds the two together. */
export const catalogue: Readonly<Record<ProblemCode, ProblemKind>> = kinds

/** Whether the same request may succeed later. */
export const isRetryable = (code: ProblemCode): boolean => catalogue[code].retryAfter !== undefined

/** One mistake in a request. `pointer` is a JSON pointer that starts with the part (`/query/max`, `/header/…`, `/body/…`). */
export interface FieldError {
  pointer: string
  detail: string
}

/** The body of a response with a problem. ProblemSchema describes it; a test holds the two together. */
export interface ProblemBody {
  type: string
  title: string
  status: number
  detail: string
  instance: string
  code: string
  request_id: string
  retryable: boolean
  errors?: FieldError[]
  message_id?: string
}
