// An AMQP 1.0 client. RabbitMQ converts its messages for AMQP 0-9-1 clients, and fails over some.

import rhea, { type Connection, type Message } from 'rhea'

/** A content type that no AMQP 0-9-1 client can be sent: RabbitMQ ends the connection of its receiver. */
export const UNDELIVERABLE = { content_type: 'x'.repeat(300) }

/** Publishes a message to a queue, by AMQP URL. Resolves when RabbitMQ has accepted it. */
export async function publishOverAmqp10(
  url: string,
  queue: string,
  body: string,
  properties: Partial<Message> = {},
): Promise<void> {
  const { hostname: host, port, username, password, pathname } = new URL(url)
  const vhost = decodeURIComponent(pathname.slice(1)) || '/'
  const options = { host, port: Number(port), username, password, hostname: `vhost:${vhost}`, reconnect: false }
  const connection: Connection = rhea.create_container().connect(options)
  const sender = connection.open_sender(`/amq/queue/${queue}`)
  await new Promise<void>((resolve, reject) => {
    sender.once('sendable', () => {
      sender.send({ durable: true, body: rhea.message.data_section(Buffer.from(body)), ...properties })
    })
    sender.once('accepted', () => resolve())
    for (const event of ['rejected', 'sender_error'])
      sender.once(event, () => reject(new Error(`${event} ${sender.error ?? ''}`)))
    connection.once('disconnected', ({ error }) => reject(error ?? new Error('RabbitMQ ended the connection')))
  })
  connection.close()
}
