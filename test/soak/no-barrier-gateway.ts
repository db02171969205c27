// A gateway without the barrier of settles: it answers 204 before RabbitMQ has read the ack. The invariants have to catch it.

import { DeliveryChannel } from '../../src/amqp/consume/delivery-channel.js'

DeliveryChannel.prototype.barrier = async () => undefined
await import('../../src/main.js')
