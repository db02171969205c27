// The command line of the benchmark.

import { parseArgs } from 'node:util'

export interface Options {
  /** Fewer cases, and fewer and shorter rounds: under two minutes in all. */
  quick: boolean
  /** Only cases whose name contains one of these. Empty for all. */
  only: string[]
  list: boolean
  help: boolean
  rounds: number
  /** How long each candidate runs in each round. */
  seconds: number
  /** Where to write the results: .html, .svg or .json. The numbers always go to a .json beside it. */
  report: string | undefined
  /** The folder of another build of this gateway, to measure in the same rounds. */
  against: string | undefined
  /** The folder for CPU profiles of the gateway. */
  profile: string | undefined
}

/** The text of --help. */
export const usage = `npm run bench -- [options]

  --quick             run the most important cases, in under two minutes
  --only <text>       run only cases whose name contains this text; may be repeated
  --list              print the names of the cases and exit
  --report <file>     write a page (.html) or a chart (.svg), and the numbers to a .json beside it
  --rounds <n>        rounds per case (default 7; with --quick 3); use more if they disagree
  --seconds <n>       seconds per candidate and round (default 1.5; with --quick 0.5)
  --against <folder>  measure another, built copy of this project in the same rounds
  --profile <folder>  write a CPU profile of the gateway to this folder, and print where its time went
  --help              print this text and exit
`

/**
 * Parses the arguments and fills in the defaults.
 * @throws Error that names an unknown option, a bad number or a report file with another extension
 */
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
    throw new Error('--report needs a file name that ends in .html, .svg or .json')
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

function positive(name: string, text: string | undefined, defaultValue: number): number {
  const value = text === undefined ? defaultValue : Number(text)
  if (!(value > 0) || (name === 'rounds' && !Number.isInteger(value)))
    throw new Error(`--${name} needs ${name === 'rounds' ? 'an integer' : 'a number'} above 0`)
  return value
}
