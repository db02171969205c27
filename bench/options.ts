// The command line.

import { parseArgs } from 'node:util'

export interface Options {
  /** Fewer cases, shorter and fewer rounds: under two minutes. */
  quick: boolean
  /** Only cases whose name has one of these in it; empty: all. */
  only: string[]
  list: boolean
  help: boolean
  rounds: number
  /** How long each contender runs in each round. */
  seconds: number
  /** Where to write the results: .html, .svg or .json; the numbers always go to a .json beside it. */
  report: string | undefined
  /** The folder of another build of this gateway, to be measured in the same rounds. */
  against: string | undefined
  /** The folder for processor profiles of the gateway. */
  profile: string | undefined
}

export const usage = `npm run bench -- [options]

  --quick            the most important cases, in under two minutes
  --only <text>      only cases whose name has this text in it; may be given more than once
  --list             print the names of the cases and end
  --report <file>    write a page (.html) or a chart (.svg), and the numbers as .json beside it
  --rounds <n>       rounds per case (7; quick 3); more of them where they disagree
  --seconds <n>      seconds per contender and round (1.5; quick 0.5)
  --against <folder> measure another, built copy of this project in the same rounds
  --profile <folder> write a processor profile of the gateway there, and print where its time went
`

/** @throws Error that says what is wrong with the arguments */
export function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    strict: true,
    options: {
      quick: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true, default: [] },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      report: { type: 'string' },
      against: { type: 'string' },
      profile: { type: 'string' },
    },
  })
  const { quick, only, list, help, report, against, profile } = values
  if (report !== undefined && !/\.(html|svg|json)$/.test(report))
    throw new Error('--report wants a file that ends in .html, .svg or .json')
  return {
    quick,
    only,
    list,
    help,
    rounds: positive('rounds', values.rounds, quick ? 3 : 7),
    seconds: positive('seconds', values.seconds, quick ? 0.5 : 1.5),
    report,
    against,
    profile,
  }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text)
  if (!(value > 0) || (name === 'rounds' && !Number.isInteger(value))) throw new Error(`--${name} wants a number above 0`)
  return value
}
