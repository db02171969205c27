// Certificates that are valid for a day, made by openssl: an authority, and the certificates that it issues.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'

export interface Certificate {
  /** Paths of PEM files. */
  cert: string
  key: string
}

export interface Authority extends Certificate {
  pem: string
  /** Issues a certificate for localhost and 127.0.0.1, for servers and clients. @param name its common name */
  issue: (name: string) => Certificate
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** Creates an authority that no system trusts. Its files are deleted after the tests. */
export function createAuthority(name = 'Test authority'): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-tls-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const path = (file: string) => join(folder, file)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const own = { cert: path('ca.pem'), key: path('ca.key') }
  openssl('req', '-x509', ...KEY, '-keyout', own.key, '-out', own.cert, '-days', '1', '-subj', `/CN=${name}`)
  let issued = 0
  return {
    ...own,
    pem: readFileSync(own.cert, 'utf8'),
    issue: (name) => {
      const file = `${++issued}`
      const made = { cert: path(`${file}.pem`), key: path(`${file}.key`) }
      writeFileSync(path('extensions'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
      openssl('req', ...KEY, '-keyout', made.key, '-out', path('request'), '-subj', `/CN=${name}`)
      const signing = ['-CA', own.cert, '-CAkey', own.key, '-set_serial', file, '-days', '1', '-extfile', path('extensions')]
      openssl('x509', '-req', '-in', path('request'), '-out', made.cert, ...signing)
      return made
    },
  }
}
