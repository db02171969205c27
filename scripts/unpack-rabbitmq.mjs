// Another RabbitMQ than the system's, out of another Debian suite: its packages, with its Erlang and its libc, are unpacked into
// a folder, and nothing is installed. Needs root, apt, and some 600 MB.

import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root as project, say } from './project.mjs'

/** Versions that can be had, and the suite each comes from. */
export const SUITES = { '4.0': 'trixie', 4.3: 'forky' }

/** What the server's scripts call, besides the server. */
const PACKAGES = [
  'rabbitmq-server',
  'base-files',
  'dash',
  'bash',
  'coreutils',
  'sed',
  'grep',
  'mawk',
  'hostname',
  'findutils',
  'libc-bin',
]

const exec = promisify(execFile)
/** @param {string} command @param {string[]} args */
const run = (command, args) => exec(command, args, { maxBuffer: 64 * 1024 * 1024 })

/**
 * Unpacks it once; the next time it is there already.
 * @param {keyof typeof SUITES} version
 * @returns {Promise<string>} the folder to give to startBroker() as `root`
 */
export async function unpackRabbitmq(version) {
  const suite = SUITES[version]
  const folder = join(project, 'node_modules', '.cache', 'rabbitmq', suite)
  const system = join(folder, 'root')
  const done = join(folder, 'unpacked')
  if (existsSync(done)) return system
  if (process.getuid?.() !== 0) throw new Error(`unpacking RabbitMQ ${version} needs root`)
  say(`unpacking RabbitMQ ${version} from Debian ${suite}`)
  rmSync(folder, { recursive: true, force: true })
  for (const part of ['lists/partial', 'archives/partial', 'sources', 'root']) mkdirSync(join(folder, part), { recursive: true })
  writeFileSync(join(folder, 'status'), '') // nothing is installed: apt resolves everything, libc included
  const signed = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const source = ['Types: deb', `URIs: ${mirror()}`, `Suites: ${suite}`, 'Components: main', `Signed-By: ${signed}`]
  writeFileSync(join(folder, 'sources', 'debian.sources'), `${source.join('\n')}\n`)
  const options = {
    'Dir::Etc::sourcelist': '/dev/null',
    'Dir::Etc::sourceparts': join(folder, 'sources'),
    'Dir::State': folder,
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': folder,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'Acquire::Retries': '2',
  }
  const flags = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  await run('apt-get', [...flags, '-qq', 'update'])
  await run('apt-get', [...flags, '-qq', '-y', '--download-only', 'install', ...PACKAGES])
  const archives = readdirSync(join(folder, 'archives')).filter((name) => name.endsWith('.deb'))
  // First the one with the links from /bin to /usr/bin and the like, which the others are unpacked through.
  for (const name of archives.sort((a, b) => Number(b.startsWith('base-files_')) - Number(a.startsWith('base-files_')))) {
    const file = join(folder, 'archives', name)
    await run('/bin/sh', ['-c', 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', 'sh', file, system])
    if (name.startsWith('base-files_')) linkUsr(system)
  }
  if (!existsSync(join(system, 'usr/bin/awk'))) symlinkSync('mawk', join(system, 'usr/bin/awk'))
  writeFileSync(join(system, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  writeFileSync(join(system, 'etc/group'), 'root:x:0:\n')
  writeFileSync(join(system, 'etc/hosts'), `127.0.0.1 localhost ${hostname()}\n`)
  for (const part of ['root', 'tmp', 'dev', 'proc']) mkdirSync(join(system, part), { recursive: true })
  rmSync(join(folder, 'archives'), { recursive: true })
  writeFileSync(done, '')
  return system
}

/** @param {string} system */
function linkUsr(system) {
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    if (existsSync(join(system, name))) continue
    mkdirSync(join(system, 'usr', name), { recursive: true })
    symlinkSync(`usr/${name}`, join(system, name))
  }
}

/** The mirror that this system's own apt uses; DEBIAN_MIRROR names another. */
function mirror() {
  const folder = '/etc/apt/sources.list.d'
  const texts = existsSync(folder) ? readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8')) : []
  if (existsSync('/etc/apt/sources.list')) texts.push(readFileSync('/etc/apt/sources.list', 'utf8'))
  const found = texts
    .flatMap((text) => [...text.matchAll(/^(?:URIs:|deb(?: \[.*?\])?) +(\S+)/gm)].map(([, url]) => url))
    .find((url) => !/security|archive|snapshot/.test(url ?? ''))
  const chosen = process.env['DEBIAN_MIRROR'] ?? found
  if (!chosen) throw new Error('no mirror found: set DEBIAN_MIRROR')
  return chosen
}
