// What to tell a client whose path or method has no route: which one was probably meant.

import type { RouteOptions } from 'fastify'
import { meant } from '../lib/nearest.js'
import { Problem } from '../problems.js'

interface KnownRoute {
  segments: string[]
  methods: string[]
  /** What it does; absent for a route that the OpenAPI document does not have. */
  summary: string | undefined
}

const isParameter = (segment: string | undefined): boolean => segment?.startsWith(':') === true
const pathOf = (segments: string[]): string => segments.join('/')
const doing = ({ summary }: KnownRoute): string => (summary === undefined ? '' : ` (${summary})`)

/** Every route, to tell a wrong method from a wrong path. */
export class KnownRoutes {
  readonly #routes: KnownRoute[] = []

  add({ url, method, schema }: RouteOptions & { url: string }): void {
    const { operationId, summary } = schema ?? {}
    const known = operationId === undefined ? undefined : summary
    this.#routes.push({ segments: url.split('/'), methods: [method].flat(), summary: known })
  }

  /** The problem of a request without a route: method_not_allowed or not_found. @param path without its query */
  problemOf(method: string, path: string): Problem {
    const segments = path.split('/')
    const here = this.#routes.filter((route) => fits(route, segments))
    if (here.length > 0) return this.#wrongMethod(method, segments, here)
    const near = this.#trailingSlash(method, segments) ?? this.#misspelt(segments) ?? this.#slashInName(method, segments)
    const hint = near ?? this.#withoutName(method, segments) ?? 'The routes are listed at /docs.'
    return new Problem('not_found', `There is no route ${method} ${path}. ${hint}`)
  }

  #wrongMethod(method: string, segments: string[], here: KnownRoute[]): Problem {
    const allow = [...new Set(here.flatMap(({ methods }) => methods))]
    const shown = allow.map((one) => one + doing(here.find(({ methods }) => methods.includes(one))!))
    const below = this.#routes
      .filter((route) => route.summary && route.methods.includes(method) && !isParameter(route.segments.at(-1)))
      .filter((route) => route.segments.length === segments.length + 1 && fits(route, [...segments, route.segments.at(-1)!]))
      .map((route) => `${method} ${pathOf([...segments, route.segments.at(-1)!])}${doing(route)}`)
    const more = below.length === 0 ? '' : ` Did you mean ${below.join(', or ')}?`
    return new Problem('method_not_allowed', `The path only supports ${shown.join(', ')}, not ${method}.${more}`, { allow })
  }

  #trailingSlash(method: string, segments: string[]): string | undefined {
    const bare = segments.slice(0, segments.findLastIndex((one) => one !== '') + 1)
    if (bare.length === segments.length || bare.length < 2) return undefined
    const route = preferred(
      method,
      this.#routes.filter((one) => fits(one, bare)),
    )
    return route && `The path has no slash at its end: ${pathOf(bare)}${doing(route)}.`
  }

  /** One word of the path is written wrongly. */
  #misspelt(segments: string[]): string | undefined {
    for (const route of this.#routes) {
      if (!route.summary || route.segments.length !== segments.length) continue
      const wrong = route.segments.flatMap((one, i) => (isParameter(one) || one === segments[i] ? [] : [i]))
      const [at] = wrong
      if (at === undefined || wrong.length > 1) continue
      const word = route.segments[at]!
      if (meant(segments[at]!, [word]) === undefined) continue
      return `Did you mean ${pathOf(segments.with(at, word))}${doing(route)}?`
    }
    return undefined
  }

  /** A name in the path has slashes that are not encoded. The route that leaves the fewest segments to the name is meant. */
  #slashInName(method: string, segments: string[]): string | undefined {
    const found: { route: KnownRoute; path: string[] }[] = []
    for (const route of this.#routes) {
      const surplus = segments.length - route.segments.length
      if (!route.summary || surplus < 1) continue
      for (const [at, part] of route.segments.entries()) {
        if (!isParameter(part) || part === ':id') continue
        const name = segments.slice(at, at + surplus + 1).join('%2F')
        const path = [...segments.slice(0, at), name, ...segments.slice(at + surplus + 1)]
        if (fits(route, path)) found.push({ route, path })
      }
    }
    const longest = Math.max(...found.map(({ path }) => path.length))
    const likely = found.filter(({ path }) => path.length === longest)
    const one = likely.find(({ route }) => route.methods.includes(method)) ?? likely[0]
    return one && `If the name has a slash in it, write it as %2F: ${pathOf(one.path)}${doing(one.route)}.`
  }

  /** The path ends where a name belongs. */
  #withoutName(method: string, segments: string[]): string | undefined {
    const route = this.#routes.find(
      (one) =>
        one.summary !== undefined &&
        one.methods.includes(method) &&
        one.segments.length === segments.length + 1 &&
        isParameter(one.segments.at(-1)) &&
        fits(one, [...segments, 'name']),
    )
    return (
      route && `The name is part of the path: ${method} ${pathOf(segments)}/{${route.segments.at(-1)!.slice(1)}}${doing(route)}.`
    )
  }
}

const fits = ({ segments }: KnownRoute, path: string[]): boolean =>
  segments.length === path.length && segments.every((part, i) => isParameter(part) || part === path[i])

const preferred = (method: string, routes: KnownRoute[]): KnownRoute | undefined =>
  routes.find(({ methods }) => methods.includes(method)) ?? routes[0]
