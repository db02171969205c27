// The OpenAPI document apart from its paths, and every schema that it has by name.

import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { BatchResultSchema, BatchResultsSchema, BatchSchema } from './schemas/batch.js'
import {
  ExtendSchema,
  ExtensionSchema,
  LeaseSchema,
  NackSchema,
  NothingSchema,
  SettleResultsSchema,
  SettleSchema,
} from './schemas/lease.js'
import { MessageSchema, MessagesSchema, PropertiesSchema, ReceiptSchema, StreamTicketSchema } from './schemas/message.js'
import { HealthSchema, ReadinessSchema } from './schemas/operations.js'
import { ProblemSchema } from './schemas/problem.js'
import { ReceiveOrderSchema } from './schemas/receive.js'
import { RedriveOrderSchema, RedriveSchema, RedrivesSchema } from './schemas/redrive.js'
import { RetryPolicyDeclarationSchema, RetryPolicySchema } from './schemas/retry.js'
import {
  SubscriptionDefinitionSchema,
  SubscriptionSchema,
  SubscriptionsSchema,
  TestDeliverySchema,
} from './schemas/subscription.js'
import {
  DeclaredQueueSchema,
  ExchangeDeclarationSchema,
  ExchangeSchema,
  PurgedSchema,
  QueueDeclarationSchema,
  QueueSchema,
} from './schemas/topology.js'

/** Every schema that the document names. */
export const schemas = [
  ProblemSchema,
  PropertiesSchema,
  MessageSchema,
  MessagesSchema,
  ReceiveOrderSchema,
  ReceiptSchema,
  StreamTicketSchema,
  BatchSchema,
  BatchResultSchema,
  BatchResultsSchema,
  LeaseSchema,
  ExtensionSchema,
  NackSchema,
  ExtendSchema,
  NothingSchema,
  SettleSchema,
  SettleResultsSchema,
  QueueDeclarationSchema,
  DeclaredQueueSchema,
  QueueSchema,
  PurgedSchema,
  RetryPolicyDeclarationSchema,
  RetryPolicySchema,
  ExchangeDeclarationSchema,
  ExchangeSchema,
  RedriveOrderSchema,
  RedriveSchema,
  RedrivesSchema,
  SubscriptionDefinitionSchema,
  SubscriptionSchema,
  SubscriptionsSchema,
  TestDeliverySchema,
  HealthSchema,
  ReadinessSchema,
]

/** The groups of operations. */
export const openapiTags = [
  { name: 'messages', description: 'Publish and receive messages.' },
  { name: 'rpc', description: 'Send a request through RabbitMQ and wait for its reply.' },
  { name: 'leases', description: 'Settle or extend received messages in a later call, at any instance.' },
  { name: 'queues', description: 'Declare, look up, purge and delete queues, and set their retry policies.' },
  { name: 'exchanges', description: 'Declare, look up, delete and bind exchanges.' },
  { name: 'redrives', description: 'Move messages from one queue back to where they came from, or elsewhere.' },
  { name: 'subscriptions', description: 'Have the messages of a queue delivered to a URL.' },
  { name: 'operations', description: 'Check health and read metrics.' },
]

/** The document that the paths of the routes are added to. */
/** The version in the nearest package.json, from the sources and from dist/ alike. */
function readVersion(folder: string): string {
  const file = join(folder, 'package.json')
  if (!existsSync(file)) {
    const parent = dirname(folder)
    if (parent === folder) throw new Error('no package.json above the OpenAPI document')
    return readVersion(parent)
  }
  const content: unknown = JSON.parse(readFileSync(file, 'utf8'))
  if (typeof content === 'object' && content !== null && 'version' in content) return String(content.version)
  throw new Error(`${file} has no version`)
}

export const document = {
  openapi: '3.1.0' as const,
  info: {
    title: 'rabbitmq-http-gateway',
    version: readVersion(import.meta.dirname),
    summary: 'An HTTP gateway to RabbitMQ.',
    description:
      'Publish messages, receive them under a lease, and settle them in a later call.\n\nEvery path works on the vhost of the gateway’s own connection, and under `/vhosts/{vhost}` on any other. Every error is an `application/problem+json` with a stable `code`. Every response has an `x-request-id`.\n\nIf the gateway requires authentication, each operation needs a right: `configure`, `write` or `read` on a name in a vhost.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  servers: [
    { url: '/', description: "The vhost of the gateway's own connection." },
    {
      url: '/vhosts/{vhost}',
      description: 'Any other vhost.',
      variables: { vhost: { default: '%2F', description: 'The name of the vhost, percent-encoded.' } },
    },
  ],
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer', description: 'An API key, or a JSON Web Token.' },
      basic: {
        type: 'http' as const,
        scheme: 'basic',
        description: 'An API key or a token as the password, with any user name; or the name and password of a RabbitMQ user.',
      },
    },
  },
  // The last one stands for no credentials, if the gateway does not require any.
  security: [{ bearer: [] }, { basic: [] }, {}],
  tags: openapiTags,
}
