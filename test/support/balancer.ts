// The real nginx and HAProxy before gateways, each in a folder of its own, on a free port of loopback.

import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { accepts, freePort } from '../../scripts/broker.mjs'
import { eventually } from './eventually.js'
import { endWithTheRun } from './process.js'

/** Runs a program with a configuration file until the tests end. Resolves when it accepts connections on the port. */
async function serve(port: number, config: string, command: (file: string, dir: string) => string[]): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'gateway-balancer-'))
  mkdirSync(join(dir, 'logs'))
  const file = join(dir, 'balancer.conf')
  writeFileSync(file, config.replaceAll('DIR', dir))
  const [program = '', ...args] = command(file, dir)
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  endWithTheRun(child)
  after(() => {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  })
  await eventually(async () => {
    if (!(await accepts(port))) throw new Error(`${program} does not listen`)
  }, 20_000)
  return `http://127.0.0.1:${port}`
}

/** nginx with its defaults towards gateways on these ports; bodies of any size pass. @returns its URL */
export async function startNginx(ports: number[]): Promise<string> {
  const port = await freePort()
  const servers = ports.map((target) => `server 127.0.0.1:${target} max_fails=1 fail_timeout=1s;`).join(' ')
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path DIR/${name};`).join(' ')
  const config = `daemon off; master_process off; pid DIR/pid; error_log DIR/logs/error.log;
events {}
http {
  access_log off; ${paths} client_max_body_size 0;
  upstream gateways { ${servers} }
  server { listen 127.0.0.1:${port}; location / { proxy_pass http://gateways; proxy_set_header host $http_host; } }
}
`
  return serve(port, config, (file, dir) => ['nginx', '-p', dir, '-c', file])
}

/** HAProxy, which passes connections on to gateways that are ready, and asks them each second. */
export async function startHaproxy(ports: number[]): Promise<{ url: string; up: () => Promise<number> }> {
  const [port, statistics] = await Promise.all([freePort(), freePort()])
  const servers = ports.map((target, n) => `  server g${n} 127.0.0.1:${target} check inter 1s fall 1 rise 1`).join('\n')
  const config = `defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen gateways
  bind 127.0.0.1:${port}
  mode tcp
  retries 0
  option httpchk GET /health/ready
${servers}
listen statistics
  bind 127.0.0.1:${statistics}
  mode http
  stats enable
  stats uri /
`
  const url = await serve(port, config, (file) => ['haproxy', '-db', '-f', file])
  /** How many gateways it passes connections on to. */
  const up = async () => {
    const csv = await (await fetch(`http://127.0.0.1:${statistics}/;csv`)).text()
    return csv.split('\n').filter((line) => /^gateways,g\d/.test(line) && line.split(',')[17]?.startsWith('UP')).length
  }
  return { url, up }
}
