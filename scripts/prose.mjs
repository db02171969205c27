// Finds phrases that the project does not use, in Markdown, and in the comments and strings of TypeScript and JavaScript.
//   node scripts/prose.mjs              every file
//   node scripts/prose.mjs docs src/a   only files whose path begins so
// A phrase in backticks is a quotation and is allowed, as are identifiers and code blocks.

import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const MAX_COLUMNS = 130

/** @typedef {{ line: number, column: number, phrase: string, suggestion: string }} Finding */
/** @typedef {{ from: number, to: number, kind: 'comment' | 'string' | 'markdown' }} Region a part of a file that people read */

/** @type {{ phrase: RegExp, suggestion: string, only?: Region['kind'] }[]} */
const RULES = [
  { phrase: /\b(?:he|his|him|himself)\b/gi, suggestion: '"they", "their", "them"' },
  { phrase: /\banew\b/gi, suggestion: '"again"' },
  { phrase: /\bheed(?:s|ed|ing)?\b/gi, suggestion: '"follow", "apply", "respect"' },
  { phrase: /\bin vain\b/gi, suggestion: '"without success", or what fails' },
  { phrase: /\bthus\b/gi, suggestion: '"so", "therefore"' },
  { phrase: /\bmend(?:s|ed|ing)?\b/gi, suggestion: '"fix", "repair"' },
  { phrase: /\bjust now\b/gi, suggestion: '"currently", "at the moment", or nothing' },
  { phrase: /\bcan not\b(?! only)/gi, suggestion: '"cannot"' },
  { phrase: /\bso (?:many|long)\b/gi, suggestion: 'the quantity: "up to 1000", "at most 30 s", "that many"' },
  {
    phrase: /(?<!\bthere )(?<!\bAUTH )\b(?:is|are|was|were) none\b/gi,
    suggestion: '"does not exist", "has no …", "no … exists"',
  },
  { phrase: /\bwhoever\b/gi, suggestion: '"a client that …", "the caller"' },
  { phrase: /(?<=(?:^|[.!?:;]|\n[-*])\s+)Who [a-z]+s\b(?![^.!?]*\?)/g, suggestion: '"A client that …", "The caller"' },
  { phrase: /\bwhat (?:can't|cannot|can not) be\b/gi, suggestion: 'the noun: "unreachable instances", "an invalid header"' },
  {
    phrase:
      /\bwhere (?:(?:it|they|that) (?:is|are) (?:not )?(?:given|set|missing|none|allowed|possible|known|needed)|there (?:is|are) (?:none|no|nothing)|nobody|no one|he)\b/gi,
    suggestion: '"if": "where" is for places',
  },
  {
    phrase: /\bas (?:of )?\w+\.\w+\(\)/gi,
    suggestion: 'the contract itself: what it does, resolves with and throws',
    only: 'comment',
  },
]

/** These have to contain the phrases. */
const EXCLUDED = new Set(['scripts/prose.mjs', 'test/unit/prose.test.ts'])
const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'coverage', '.git', '.run'])

/**
 * The phrases in a text that the project does not use, in their order.
 * @param {string} file decides by its ending how the text is read
 * @param {string} text
 * @returns {Finding[]}
 */
export function findPhrases(file, text) {
  const regions = file.endsWith('.md')
    ? [/** @type {Region} */ ({ from: 0, to: text.length, kind: 'markdown' })]
    : regionsOf(file, text)
  const starts = [0]
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1)
  /** @param {number} at @param {string} phrase @param {string} suggestion */
  const finding = (at, phrase, suggestion) => {
    const line = starts.findLastIndex((start) => start <= at)
    return { line: line + 1, column: at - (starts[line] ?? 0) + 1, phrase: phrase.replace(/\s+/g, ' '), suggestion }
  }
  const found = regions.flatMap(({ from, to, kind }) => {
    // A phrase may run over a line break: each rule's spaces match any white space.
    const readable = readableText(text.slice(from, to), kind)
    return RULES.filter(({ only }) => only === undefined || only === kind).flatMap(({ phrase, suggestion }) => {
      const spaced = new RegExp(phrase.source.replaceAll(' ', '\\s+'), phrase.flags)
      return [...readable.matchAll(spaced)].map((match) => finding(from + match.index, match[0], suggestion))
    })
  })
  const long = new Map(
    regions
      .filter(({ kind }) => kind === 'comment')
      .flatMap(({ from, to }) => starts.filter((start) => start <= to && lineEnd(text, start) >= from))
      .filter((start) => lineEnd(text, start) - start > MAX_COLUMNS)
      .map((start) => [start, finding(start + MAX_COLUMNS, `${lineEnd(text, start) - start} columns`, `at most ${MAX_COLUMNS}`)]),
  )
  return [...found, ...long.values()]
    .sort((a, b) => a.line - b.line || a.column - b.column || b.phrase.length - a.phrase.length)
    .filter(({ line, column, phrase }, index, all) => {
      const last = all[index - 1]
      return last?.line !== line || last.column + last.phrase.length < column + phrase.length // not part of a longer one
    })
}

/** @param {string} text @param {number} start */
function lineEnd(text, start) {
  const end = text.indexOf('\n', start)
  return end === -1 ? text.length : end
}

/** @param {string} text */
const blank = (text) => text.replace(/[^\n]/g, ' ')

/** The text at the same positions, without what is quoted or is code. @param {string} text @param {Region['kind']} kind */
function readableText(text, kind) {
  if (kind === 'string') {
    const inner = text.slice(1, -1)
    return ` ${inner.replace(/\\?`[^`]*`/g, blank)} `
  }
  if (kind === 'comment') text = text.replace(/^[ \t]*(?:\/\/+|\/\*\*?|\*(?!\/))|\*\/$/gm, blank)
  else text = text.replace(/^( *)(```+|~~~+)[^\n]*\n[\s\S]*?^\1\2[^\n]*$/gm, blank).replace(/\]\([^)\s]*\)/g, blank)
  return text.replace(/``[^`]*``|`[^`]*`/g, blank)
}

/** The comments and the strings with more than one word. @param {string} file @param {string} text @returns {Region[]} */
function regionsOf(file, text) {
  const source = ts.createSourceFile(
    file,
    text,
    ts.ScriptTarget.Latest,
    true,
    file.endsWith('.ts') ? undefined : ts.ScriptKind.JS,
  )
  /** @type {Map<number, number>} */
  const comments = new Map()
  /** @type {Region[]} */
  const strings = []
  /** @param {ts.Node} node */
  const visit = (node) => {
    const around = [ts.getLeadingCommentRanges(text, node.pos), ts.getTrailingCommentRanges(text, node.end)]
    for (const { pos, end } of around.flatMap((ranges) => ranges ?? [])) comments.set(pos, end)
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      const [from, to] = [node.getStart(source), node.end]
      if (/\s/.test(text.slice(from, to))) strings.push({ from, to, kind: 'string' })
    }
    if (!ts.isJSDoc(node)) for (const child of node.getChildren(source)) visit(child)
  }
  visit(source)
  /** @type {Region[]} */
  const regions = []
  for (const [from, to] of [...comments].sort(([a], [b]) => a - b)) {
    const last = regions.at(-1)
    // Line comments below each other are one text.
    if (last && /^\n[ \t]*$/.test(text.slice(last.to, from)) && text.startsWith('//', from)) last.to = to
    else if (!last || from >= last.to) regions.push({ from, to, kind: 'comment' })
  }
  return [...regions, ...strings]
}

/** The files to read, below a folder. @param {string} folder @returns {string[]} */
function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return SKIPPED_FOLDERS.has(entry.name) ? [] : filesBelow(path)
    return /\.(md|ts|mjs|cjs)$/.test(entry.name) ? [path] : []
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = resolve('.')
  const prefixes = process.argv.slice(2)
  let count = 0
  for (const path of filesBelow(root).sort()) {
    const file = relative(root, path)
    if (EXCLUDED.has(file) || (prefixes.length > 0 && !prefixes.some((prefix) => file.startsWith(prefix)))) continue
    for (const { line, column, phrase, suggestion } of findPhrases(file, readFileSync(path, 'utf8'))) {
      console.log(`${file}:${line}:${column}: "${phrase}": write ${suggestion}`)
      count++
    }
  }
  if (count > 0) {
    console.error(`${count} phrases to reword. A quotation goes in backticks.`)
    process.exitCode = 1
  }
}
