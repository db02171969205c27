// docs/architecture.md has a table of the folders, and the documents name source files: both have to match the tree.

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { describe, it } from 'node:test'

const NOT_CODE = new Set(['coverage', 'dist', 'docs', 'node_modules'])

const foldersIn = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => posix.join(folder, entry.name))

/** All folders below this one, at any depth. */
const foldersUnder = (folder: string): string[] =>
  foldersIn(folder).flatMap((subfolder) => [subfolder, ...foldersUnder(subfolder)])

const markdownFiles = [
  ...['README.md', 'CONTRIBUTING.md', 'SECURITY.md'],
  ...readdirSync('docs', { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => join('docs', file)),
]

describe('the table of folders in docs/architecture.md', () => {
  const text = readFileSync('docs/architecture.md', 'utf8')
  const section = text.slice(text.indexOf('\n## Folders\n'), text.indexOf('\n## Connections\n'))
  const rows = [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, path]) => path!)

  it('has a row for each folder of code in the repository, and for each folder under src', () => {
    const topLevel = foldersIn('.').filter((folder) => !NOT_CODE.has(folder))
    const missing = [...topLevel, ...foldersUnder('src')].filter((folder) => !rows.includes(`${folder}/`))
    assert.deepEqual(missing, [])
  })

  it('has no row for a path that does not exist', () => {
    assert.ok(rows.length > 20, `${rows.length} rows`)
    assert.deepEqual(
      rows.filter((path) => !existsSync(path)),
      [],
    )
  })

  it('has no path twice', () => {
    assert.deepEqual(rows, [...new Set(rows)])
  })
})

describe('the documents', () => {
  it('name only source files and folders that exist', () => {
    const mentions = markdownFiles.flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/`((?:src|routes|openapi)\/[\w./-]*)`/g)].map(([, path]) => ({
        file,
        path: path!,
      })),
    )
    assert.ok(mentions.length > 50, `${mentions.length} paths`)
    assert.deepEqual(
      mentions.filter(({ path }) => !existsSync(path)),
      [],
    )
  })
})
