// What the scripts share: where the project is, running commands, installing what is missing. Node alone, no packages: it runs
// before there are any.

import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The project's folder, whether this file runs as it is or from the compiled tree. */
export const root = findRoot(dirname(fileURLToPath(import.meta.url)))

/** @param {string} folder @returns {string} */
function findRoot(folder) {
  return existsSync(join(folder, 'tsconfig.json')) ? folder : findRoot(dirname(folder))
}

/** @param {string} text */
export const say = (text) => console.log(`▸ ${text}`)

/**
 * Runs a command to its end, its output shown, and rejects when it fails.
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<void>}
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options })
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (code === 0) resolve()
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code ?? signal}`))
    })
  })
}

/**
 * Whether the command succeeds; its output is discarded.
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<boolean>}
 */
export const succeeds = (command, args) =>
  run(command, args, { stdio: 'ignore' }).then(
    () => true,
    () => false,
  )

/** Installs the npm packages if they are missing or older than the lock file. */
export async function ensurePackages() {
  const installed = join(root, 'node_modules', '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs) return
  say('installing npm packages')
  await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
}

/** Compiles the project, and first takes away what was compiled of files that are gone. */
export async function build() {
  const dist = join(root, 'dist')
  if (existsSync(dist)) {
    for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
      const source = file.replace(/\.(m?)js(\.map)?$/, '')
      const gone = /\.m?js$/.test(file) && !['.ts', '.mjs', '.js'].some((ending) => existsSync(join(root, source + ending)))
      if (gone) rmSync(join(dist, file))
    }
  }
  await run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'])
}

/**
 * Installs system packages that are missing, after saying so. A service that a package would start is not started.
 * @param {string[]} names
 */
export async function ensureSystemPackages(names) {
  const missing = []
  for (const name of names) if (!(await succeeds('dpkg', ['-s', name]))) missing.push(name)
  if (missing.length === 0) return
  if (!(await succeeds('apt-get', ['--version'])))
    throw new Error(`Please install ${missing.join(', ')}: there is no apt-get here to do it.`)
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  if (sudo.length > 0 && !(await succeeds('sudo', ['-n', 'true']))) {
    throw new Error(`Please run this as root first: apt-get install -y ${missing.join(' ')}`)
  }
  say(`installing system packages: ${missing.join(', ')}`)
  /** @param {string[]} args */
  const apt = (...args) => {
    // policy-rc.d keeps a package's service down; RUNLEVEL=1 does so if it does not exist.
    const command = [
      ...sudo,
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'RUNLEVEL=1',
      'apt-get',
      '-qq',
      '-o',
      'Dpkg::Use-Pty=0',
      ...args,
    ]
    return run(/** @type {string} */ (command[0]), command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] })
  }
  await apt('update')
  await apt('install', '-y', '--no-install-recommends', ...missing)
}

/** The version in package.json. */
export const version = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version
