// Which page a request comes from, as far as its headers tell. A page cannot forge these headers, other programs can: they are
// no proof of the caller; they only keep a browser from being used against its own user.

import type { IncomingHttpHeaders } from 'node:http'

/**
 * Whether a browser sends the request, also without `sec-fetch-site`: over plain HTTP browsers send that to loopback only. A page
 * can set `accept-language` but not `user-agent`, and cannot stop either. Other programs send these headers too: fetch of Node.js
 * and Deno `accept-language: *` and `sec-fetch-mode: cors`, PowerShell a user agent that begins like a browser's.
 */
export function isBrowser(headers: IncomingHttpHeaders): boolean {
  const { 'user-agent': agent = '', 'accept-language': language = '*', 'sec-fetch-mode': mode = 'cors' } = headers
  return (
    language !== '*' ||
    mode !== 'cors' ||
    (agent.startsWith('Mozilla/') && !agent.includes('PowerShell/')) ||
    ['sec-fetch-site', 'sec-fetch-dest', 'sec-fetch-user'].some((name) => headers[name] !== undefined)
  )
}

/** The origin of the page that made the browser send the request: from `origin`, or else from `referer`; undefined if unknown. */
export function sourceOf({ origin, referer }: IncomingHttpHeaders): string | undefined {
  if (origin !== undefined || referer === undefined) return origin
  return URL.canParse(referer) ? new URL(referer).origin : undefined
}
