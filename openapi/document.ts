// What the OpenAPI document says beside the routes, and every schema that it names.

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
import { MessageSchema, MessagesSchema, PropertiesSchema, ReceiptSchema } from './schemas/message.js'
import { HealthSchema, ReadinessSchema } from './schemas/operations.js'
import { ProblemSchema } from './schemas/problem.js'
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

export const schemas = [
  ProblemSchema,
  PropertiesSchema,
  MessageSchema,
  MessagesSchema,
  ReceiptSchema,
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

export const openapiTags = [
  { name: 'messages', description: 'Publish and receive.' },
  { name: 'rpc', description: 'Request and reply.' },
  { name: 'leases', description: 'Acknowledge, give back or extend what was received, in a later call and at any instance.' },
  { name: 'queues', description: 'Declare, look at, purge, delete.' },
  { name: 'exchanges', description: 'Exchanges and bindings.' },
  { name: 'redrives', description: 'Move messages from one queue to where they came from, or elsewhere.' },
  { name: 'subscriptions', description: 'Have the messages of a queue POSTed to a URL.' },
  { name: 'operations', description: 'Health and metrics.' },
]

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
    summary: 'RabbitMQ for everything that speaks HTTP.',
    description:
      'Publish, receive under a lease, and settle in a later call.\n\nEvery path works on the connection’s own vhost as it is, and under `/vhosts/{vhost}` on any other. Every error is an `application/problem+json` with a stable `code`. Every response carries `x-request-id`.\n\nWhere the gateway asks who calls, each operation wants a right: `configure`, `write` or `read` on a name in a vhost.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  servers: [
    { url: '/', description: "The connection's own vhost." },
    {
      url: '/vhosts/{vhost}',
      description: 'Any other vhost.',
      variables: { vhost: { default: '%2F', description: 'Percent-encoded.' } },
    },
  ],
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer', description: 'An API key, or a JSON Web Token.' },
      basic: {
        type: 'http' as const,
        scheme: 'basic',
        description: 'An API key or a token as the password, with any user name; or a user of RabbitMQ.',
      },
    },
  },
  // The empty last one means no credentials, for a gateway that does not authenticate.
  security: [{ bearer: [] }, { basic: [] }, {}],
  tags: openapiTags,
}
