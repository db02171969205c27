// Where other instances settle the leases that this one holds. Exists only if this instance advertises an address.

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { byInstance } from '../src/access/requirements.js'
import { INSTANCE_PATH } from '../src/instances/client.js'
import { bodyDigest, SIGNATURE, type Signed } from '../src/instances/signature.js'
import { Problem } from '../src/problems.js'
import type { Services } from '../src/services.js'
import { bytesOf, present } from './params.js'
import { acceptAnyBody } from './raw-body.js'

/** A client's bulk settle has at most 1 MiB; between instances each of its commands is a little longer. */
const MAX_COMMANDS_BYTES = 2 * 1024 * 1024

const hidden: object = { hide: true }

/** Accepts signed lease commands from other instances. Adds no route if this instance has no address of its own. */
export async function instanceRoutes(app: FastifyInstance, { instances, leases, vhosts }: Services): Promise<void> {
  if (!instances) return
  const { signatures } = instances
  const signed = new WeakMap<FastifyRequest, Signed>()
  acceptAnyBody(app, MAX_COMMANDS_BYTES)
  app.post(
    INSTANCE_PATH,
    {
      config: { access: byInstance },
      schema: hidden,
      // Checked before any of the body is read.
      onRequest: (request, _reply, done) => {
        const found = signatures.read(request.headers[SIGNATURE])
        if (found) signed.set(request, found)
        done(
          found
            ? undefined
            : signatureRefused(
                'The request is not signed with the ADVERTISE_SECRET of this instance, or the clocks differ by over a minute.',
              ),
        )
      },
    },
    async (request, reply) => {
      const { epoch, digest, header } = present(signed.get(request), 'the signature of a checked request')
      const commands = bytesOf(request.body)
      if (bodyDigest(commands) !== digest) throw signatureRefused('The body does not match its signature.')
      // The empty answer says that this instance does not know the epoch.
      const answer = vhosts.knows(epoch) ? await leases.runEncoded(commands) : Buffer.of()
      return reply.header(SIGNATURE, signatures.signAnswer(header, answer)).type('application/json').send(answer)
    },
  )
}

const signatureRefused = (detail: string): Problem => new Problem('unauthorized', detail, { challenge: 'Gateway-Signature' })
