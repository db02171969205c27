// Health and readiness.

import { Type } from 'typebox'
import { strict } from './common.js'

export const HealthSchema = Type.Object(
  { status: Type.String() },
  { $id: 'Health', ...strict, description: 'The process is alive.' },
)

export const ReadinessSchema = Type.Object(
  {
    status: Type.Enum(['ready', 'not_ready']),
    reason: Type.Optional(Type.String({ description: 'Why the gateway is not ready.' })),
  },
  { $id: 'Readiness', ...strict },
)
