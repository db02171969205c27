// npm run release -- 0.2.0: makes the commit and the tag of a release; RELEASING.md has the steps around it.
//   npm run release -- 0.2.0 --dry-run   checks everything and prints what it would do

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { root, say } from './project.mjs'

const CHANGED_FILES = ['package.json', 'package-lock.json', 'CHANGELOG.md', 'openapi/openapi.json']

const VERSION = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/

/** @param {string} version */
function parseVersion(version) {
  const parts = VERSION.exec(version)
  if (!parts) throw new Error(`${version} is not a version like 1.2.3`)
  return parts.slice(1).map(Number)
}

/**
 * Whether a version comes after another one.
 * @param {string} version
 * @param {string} other
 * @throws if one of them is not like 1.2.3
 */
export function isGreater(version, other) {
  const [parts, others] = [parseVersion(version), parseVersion(other)]
  const at = parts.findIndex((part, index) => part !== others[index])
  return at !== -1 && Number(parts[at]) > Number(others[at])
}

/**
 * A changelog whose unreleased changes are those of a version, below a new empty section for unreleased changes.
 * @param {string} changelog
 * @param {string} version
 * @param {string} date as in 2026-11-23
 * @returns {string}
 * @throws if nothing is unreleased, or if the changelog has that version already
 */
export function releaseChangelog(changelog, version, date) {
  const heading = /^## \[Unreleased\][ \t]*\n/m.exec(changelog)
  if (!heading) throw new Error('CHANGELOG.md has no section "## [Unreleased]"')
  if (changelog.includes(`\n## [${version}]`)) throw new Error(`CHANGELOG.md already has a section for ${version}`)
  const before = changelog.slice(0, heading.index)
  const after = changelog.slice(heading.index + heading[0].length)
  const next = after.search(/^## /m)
  const changes = (next === -1 ? after : after.slice(0, next)).replace(/^#.*$/gm, '').trim()
  if (changes === '') throw new Error('CHANGELOG.md has no unreleased changes')
  return `${before}## [Unreleased]\n\n## [${version}] - ${date}\n\n${after.trimStart()}`
}

/**
 * The text of a JSON file with other version numbers; nothing else changes.
 * @param {string} text of package.json or package-lock.json
 * @param {string} version
 * @returns {string}
 */
export function withVersion(text, version) {
  const content = JSON.parse(text)
  content.version = version
  if (content.packages?.['']) content.packages[''].version = version
  return `${JSON.stringify(content, null, 2)}\n`
}

/** @param {string[]} args */
const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()

function main() {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { 'dry-run': { type: 'boolean' } } })
  const [version] = positionals
  if (version === undefined || positionals.length > 1) throw new Error('usage: npm run release -- 0.2.0 [--dry-run]')
  const read = (/** @type {string} */ file) => readFileSync(join(root, file), 'utf8')
  const current = JSON.parse(read('package.json')).version
  if (!isGreater(version, current)) throw new Error(`${version} is not greater than ${current}`)
  if (git('status', '--porcelain') !== '') throw new Error('the working tree has changes: commit or stash them')
  const tag = `v${version}`
  if (git('tag', '--list', tag) !== '') throw new Error(`the tag ${tag} already exists`)

  /** @type {Record<string, string>} */
  const texts = {
    'package.json': withVersion(read('package.json'), version),
    'package-lock.json': withVersion(read('package-lock.json'), version),
    'CHANGELOG.md': releaseChangelog(read('CHANGELOG.md'), version, new Date().toISOString().slice(0, 10)),
    'openapi/openapi.json': withApiVersion(read('openapi/openapi.json'), version),
  }
  if (values['dry-run']) {
    say(`would change ${CHANGED_FILES.join(', ')}, commit chore(release): ${tag}, and tag it ${tag}`)
    return
  }
  for (const file of CHANGED_FILES) writeFileSync(join(root, file), String(texts[file]))
  git('commit', '--quiet', '--message', `chore(release): ${tag}`, '--', ...CHANGED_FILES)
  git('tag', '--annotate', '--message', tag, tag)
  say(`${tag} is committed and tagged; to publish it: git push --follow-tags`)
}

/** The generated OpenAPI document repeats the version. @param {string} text @param {string} version */
function withApiVersion(text, version) {
  const document = JSON.parse(text)
  document.info.version = version
  return `${JSON.stringify(document, null, 2)}\n`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main()
  } catch (error) {
    console.error(`✗ ${/** @type {Error} */ (error).message}`)
    process.exitCode = 1
  }
}
