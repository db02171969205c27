// The only door to amqplib. It puts our lossless field-table decoder in the place of amqplib's before amqplib binds its own
// at load (docs/decisions/0002-lossless-field-tables.md): amqplib's version is pinned for this, and a unit test fails when
// the decoder is not in force.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { decodeFields } from './field-table.js'

export type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Options } from 'amqplib'

const require = createRequire(import.meta.url)
const codec = require(join(dirname(require.resolve('amqplib')), 'lib', 'codec.js'))
codec.decodeFields = decodeFields

export const { connect } = require('amqplib') as typeof import('amqplib')
