// Where other instances settle the leases that are held here. Only there where this one advertises an address.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { byInstance } from '../src/access/requirements.js'
import { INSTANCE_PATH } from '../src/instances/client.js'
import { bodyDigest, SIGNATURE, type Signed } from '../src/instances/signature.js'
import { Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { acceptAnyBody } from './raw-body.js'

/** A client's bulk settle has 1 MiB at most; each of its commands says a little more here. */
const MAX_COMMANDS = 2 * 1024 * 1024

export async function instanceRoutes(app: FastifyInstance, { instances, leases, vhosts }: Services): Promise<void> {
  if (!instances) return
  const { signatures } = instances
  const signed = new WeakMap<FastifyRequest, Signed>()
  acceptAnyBody(app, MAX_COMMANDS)
  app.post(
    INSTANCE_PATH,
    {
      config: { access: byInstance },
      schema: { hide: true } as object,
      // Before a byte of the body is read.
      onRequest: (request, _reply, done) => {
        const found = signatures.read(request.headers[SIGNATURE])
        if (found) signed.set(request, found)
        done(
          found
            ? undefined
            : signatureRefused('Only instances that share a secret with this one, and its time, have business here.'),
        )
      },
    },
    async (request, reply) => {
      const { epoch, digest, header } = signed.get(request)!
      const commands = (request.body as Buffer | undefined) ?? Buffer.of()
      if (bodyDigest(commands) !== digest) throw signatureRefused('The body is not the one that was signed.')
      // Of an epoch of somebody else nothing is known here: nothing is what it is answered.
      const answer = vhosts.knows(epoch) ? await leases.runEncoded(commands) : Buffer.of()
      return reply.header(SIGNATURE, signatures.signAnswer(header, answer)).type('application/json').send(answer)
    },
  )
}

const signatureRefused = (detail: string): Problem => new Problem('unauthorized', detail, { challenge: 'Gateway-Signature' })
