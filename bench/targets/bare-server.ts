// The lower bound: a Fastify server that reads a request and responds with fixed content. Prints its URL.

import Fastify from 'fastify'
import { jsonDocument } from '../load.js'

const app = Fastify()
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: 16 * 1024 ** 2 }, (_request, body, done) => done(null, body))

app.post('/queues/:queue/messages', async (_request, reply) =>
  reply.code(201).send({ message_id: '00000000-0000-4000-8000-000000000000', routed: true }),
)

const message = `{"payload":${jsonDocument(1024)},"payload_encoding":"json"}`
const answers = new Map<number, string>()
app.get<{ Querystring: { max?: string; wait?: string } }>('/queues/:queue/messages', (request, reply) => {
  if (request.query.wait) return // held until the client closes the connection
  const max = Number(request.query.max ?? 1)
  const answer = answers.get(max) ?? `{"messages":[${new Array(max).fill(message).join(',')}]}`
  answers.set(max, answer)
  reply.type('application/json; charset=utf-8').send(answer)
})

app.get('/health/ready', async () => 'ready')

console.log(`listening on ${await app.listen({ host: '127.0.0.1', port: 0 })}`)
