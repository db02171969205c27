// The proxies of docs/proxies.md, as processes of this test: the configurations are the document's own.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { freePort } from '../../scripts/broker.mjs'
import { eventually } from './eventually.js'
import { freshFile } from './files.js'
import { endWithTheRun } from './process.js'

/** The block of a document that a section has for a proxy, with the ports of the test. */
function configuration(language: string, port: number, gatewayUrl: string): string {
  const block = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(readFileSync('docs/proxies.md', 'utf8'))?.[1]
  if (!block) throw new Error(`docs/proxies.md has no block ${language}`)
  return block.replaceAll('127.0.0.1:8080', new URL(gatewayUrl).host).replaceAll('8000', String(port))
}

/** Writes what a proxy needs around its block, and tells how to start it in the foreground. */
const PROXIES: Record<string, (block: string, port: number, folder: string) => string[]> = {
  nginx: (block, _port, folder) => {
    const file = join(folder, 'nginx.conf')
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`)
    writeFileSync(
      file,
      `daemon off; pid ${folder}/pid; error_log ${folder}/error.log; events {} http { access_log off; ${paths.join(' ')}\n${block}\n}`,
    )
    return ['nginx', '-p', folder, '-c', file]
  },
  haproxy: (block, _port, folder) => {
    writeFileSync(join(folder, 'haproxy.cfg'), block)
    return ['haproxy', '-db', '-f', join(folder, 'haproxy.cfg')]
  },
  apache: (block, port, folder) => {
    const modules = ['mpm_event', 'authz_core', 'headers', 'proxy', 'proxy_http'].map(
      (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
    )
    const around = [`ServerRoot ${folder}`, `PidFile ${folder}/pid`, 'ServerName localhost', `ErrorLog ${folder}/error.log`]
    const file = join(folder, 'apache.conf')
    writeFileSync(
      file,
      `${[...modules, ...around, 'User www-data', 'Group www-data', `Listen 127.0.0.1:${port}`].join('\n')}\n${block}\n`,
    )
    return ['apache2', '-D', 'FOREGROUND', '-f', file]
  },
  caddy: (block, _port, folder) => {
    const file = join(folder, 'Caddyfile')
    writeFileSync(file, `{\n\tadmin off\n\tauto_https off\n}\n${block}`)
    return ['caddy', 'run', '--adapter', 'caddyfile', '--config', file]
  },
}

/** Starts a proxy before a gateway. It is ended after the test. @returns its URL */
export async function startReverseProxy(name: string, gatewayUrl: string): Promise<string> {
  const port = await freePort()
  const folder = dirname(freshFile('x', ''))
  const [command = '', ...args] = PROXIES[name]!(configuration(name, port, gatewayUrl), port, folder)
  mkdirSync(join(folder, 'home'))
  // Debian has the servers in a folder that users have no path to.
  const env = { PATH: `${process.env['PATH']}:/usr/sbin`, HOME: join(folder, 'home') }
  const child = spawn(command, args, { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (chunk) => {
    errors += chunk
  })
  child.once('error', (error) => {
    errors += error.message
  })
  endWithTheRun(child)
  after(() => ended(child))
  await eventually(async () => {
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`${name} ended: ${errors}`)
    await accepts(port)
  }, 30_000)
  return `http://127.0.0.1:${port}`
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await exit
}

function accepts(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}
