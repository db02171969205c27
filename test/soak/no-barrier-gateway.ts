// A gateway whose settles wait for no barrier: it says 204 before RabbitMQ has read the ack. The checker has to catch it.

import { DeliveryChannel } from '../../src/amqp/consume/delivery-channel.js'

DeliveryChannel.prototype.barrier = async () => undefined
await import('../../src/main.js')
