// The check of the project's prose: what it finds, and what it leaves alone.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, it } from 'node:test'
import { findPhrases } from '../../scripts/prose.mjs'

const phrases = (file: string, text: string) => findPhrases(file, text).map(({ phrase }) => phrase)

describe('the check of prose', () => {
  it('each unwanted phrase is found in Markdown', () => {
    const found: [text: string, phrase: string][] = [
      ['The user and his key.', 'his'],
      ['Connects anew.', 'anew'],
      ['RabbitMQ heeds it.', 'heeds'],
      ['It waits in vain.', 'in vain'],
      ['Thus it ends.', 'Thus'],
      ['It mends itself.', 'mends'],
      ['Not just now.', 'just now'],
      ['It can not end.', 'can not'],
      ['Waits so long.', 'so long'],
      ['Moves so many messages.', 'so many'],
      ['That header is none.', 'is none'],
      ['Whoever asks.', 'Whoever'],
      ['It ends. Who waits is told.', 'Who waits'],
      ["Counts what can't be reached.", "what can't be"],
      ['5672 where it is not given.', 'where it is not given'],
      ['5672 where there is none.', 'where there is none'],
      ['Fails where nobody listens.', 'where nobody'],
    ]
    for (const [text, phrase] of found) assert.deepEqual(phrases('a.md', text), [phrase], text)
  })

  it('a phrase that runs over a line break is found', () => {
    assert.deepEqual(phrases('a.md', 'It is not there just\nnow.'), ['just now'])
    assert.deepEqual(phrases('a.ts', '// It is not there just\n// now.\n'), ['just now'])
    assert.deepEqual(phrases('a.ts', '/**\n * It is not there just\n * now.\n */\n'), ['just now'])
  })

  it('comments and strings of code are read, with their line and column', () => {
    const text = `const a = 1 // his\n/** It can not. */\nconst b = 'ends anew'\nconst c = \`waits \${a} so long\`\n`
    assert.deepEqual(
      findPhrases('a.ts', text).map(({ line, column, phrase }) => [line, column, phrase]),
      [
        [1, 16, 'his'],
        [2, 8, 'can not'],
        [3, 17, 'anew'],
        [4, 23, 'so long'],
      ],
    )
  })

  it('a contract by reference is found in comments only', () => {
    assert.deepEqual(phrases('a.ts', '/** As Publisher.publish() does. */\n'), ['As Publisher.publish()'])
    assert.deepEqual(phrases('a.md', 'The same as Publisher.publish().'), [])
  })

  it('comment lines over 130 columns are found, and code lines are not', () => {
    assert.deepEqual(phrases('a.ts', `// ${'x'.repeat(127)}\n// ${'x'.repeat(128)}\n`), ['131 columns'])
    assert.deepEqual(phrases('a.ts', `const a = '${'x'.repeat(150)}'\n`), [])
  })

  it('identifiers, code blocks and quotations in backticks are allowed', () => {
    const code =
      "const his = 1\nconst he = /just now/\nheed(his) // `his` stands here\nconst c = 'use `so long` here'\nheed('his')\n"
    assert.deepEqual(phrases('a.ts', code), [])
    assert.deepEqual(phrases('a.md', '```sh\necho his\n```\n\nSay `his`.\n'), [])
  })

  it('words that only resemble a phrase are allowed', () => {
    const text = 'This the client can. Who is there? Not so fast. None is. Where it runs. The history. Cannot. Recommended.'
    assert.deepEqual(phrases('a.md', text), [])
  })

  it('the command prints file, line and column and fails, and passes without a finding', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'gateway-prose-'))
    const run = () =>
      new Promise<{ code: unknown; stdout: string }>((done) => {
        execFile(process.execPath, [resolve('scripts/prose.mjs')], { cwd: dir }, (error, stdout) =>
          done({ code: error?.code ?? 0, stdout }),
        )
      })
    try {
      writeFileSync(join(dir, 'a.md'), '# A\n\nThe user and his key.\n')
      assert.deepEqual(await run(), { code: 1, stdout: 'a.md:3:14: "his": write "they", "their", "them"\n' })
      writeFileSync(join(dir, 'a.md'), '# A\n\nThe users and their keys.\n')
      assert.deepEqual(await run(), { code: 0, stdout: '' })
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})
